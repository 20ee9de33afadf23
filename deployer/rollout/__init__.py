"""The rollout: what is observed, what is decided, and who is started, retired or killed."""
