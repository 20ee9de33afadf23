"""The exchange over WebSockets: the venue's channels, its prices, and Binance's streams."""
