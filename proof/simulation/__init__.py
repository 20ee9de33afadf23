"""Bots, deployer and exchange in one process under a virtual clock, with faults by seed: `python -m proof.simulation`.

What runs is the product's own code: roles, lease, ledger, orders, reconciliation, the deployer with its rollout, paper's
exchange. What stands in for the world is here: processes that can die between any two steps, the network, git, and the
runtime that starts bots.
"""
