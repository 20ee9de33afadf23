"""A selection of the odd requests of `python -m proof.requests`."""

from __future__ import annotations

from proof.requests import fuzz, running


def test_odd_requests_neither_stop_the_panel_nor_make_it_fail_or_grow() -> None:
    """No 5xx, no stop, no growth; what is behind token, guard and rates is reached."""
    with running() as panel:
        found = fuzz(panel, 800, seed=7)
    assert (found.errors, found.stops, found.growth) == ([], [], [])
    assert {200, 400, 403, 404, 405, 409, 422, 429} <= set(found.statuses)
