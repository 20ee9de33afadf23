"""What the market says: lead prices (Binance), settlement prices (RTDS), books, markets, and when to evaluate."""
