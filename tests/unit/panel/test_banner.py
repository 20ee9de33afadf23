"""What the page says of whose money it shows, before anything is read."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.testclient import TestClient

from panel.api import _page


def shown(banner: str) -> str:
    app = FastAPI()
    app.include_router(_page(banner))
    return str(TestClient(app).get("/").text)


def test_the_page_says_in_plain_sight_that_the_money_is_play_money() -> None:
    """It is part of the page itself, so that nothing has to be read first; the words are text and never markup."""
    rehearsal = '<p id="mode" data-mode="rehearsal"><strong>REHEARSAL</strong> <span>{}</span></p>'
    assert rehearsal.format("real prices, play money") in shown("real prices, play money")
    assert rehearsal.format("&lt;b&gt;") in shown("<b>")
    assert '<p id="mode" hidden></p>' in shown("")
