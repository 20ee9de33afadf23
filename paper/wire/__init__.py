"""The exchange over HTTP: the order book, Gamma, Binance, the relayer, and the exchange's own control."""
