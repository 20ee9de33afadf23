"""The exchange without its wire: books, matching, money, markets, prices, the record."""
