"""The venue: what the bot knows of it (types) and the one adapter that speaks to it (polymarket)."""
