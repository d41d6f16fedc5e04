"""The load engine: users with a schedule, in one process or several, recorded and judged. `locustfiles/` shows how."""
