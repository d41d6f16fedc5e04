"""Numbers and nothing else: estimates, intervals, tests, and the compiled simulation."""
