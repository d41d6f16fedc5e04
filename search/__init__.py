"""One video searched, and shown: the shipped workload as a person uses it. No experiment."""
