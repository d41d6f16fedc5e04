"""What is said, as pages, tables and figures."""
