"""The proof: a model of the lease, power cuts, kills at every step; `make proof` runs them, `make test` a selection.

It uses the bus and the bot as they are, and nothing that runs imports it.
"""
