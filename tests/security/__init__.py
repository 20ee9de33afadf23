"""What an adversary tried, as tests: who may do what, and nothing beyond."""
