"""What travels between callers, gateways and functions, and the rows that are made of it."""
