"""The life of one instance: its roles, its polls, what it publishes, and the process around it."""
