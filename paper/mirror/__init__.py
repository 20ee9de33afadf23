"""The exchange as a mirror of a real one: its markets, books, trades, prices and outcomes, and play money on top.

``Mirror`` takes frames, live from `recording.capture` or played from a recording by ``Player``; both go the same way.
"""
