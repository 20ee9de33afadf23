"""Tools that read: audit, explain, the comparison of decisions, recordings, replay. None of them trades."""
