"""From what runs showed to what may be said of it."""
