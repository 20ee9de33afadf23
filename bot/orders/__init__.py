"""Orders: the manager, the plan of one order, risk, limits, and what may be concluded of an order in doubt."""
