"""The account: its balance and the venue's clock, what is held, reconciliation, activity of others, redemption."""
