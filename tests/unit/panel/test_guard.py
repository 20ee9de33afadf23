"""The guard's decisions, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from panel.guard import Bucket, Refusal, Scope, Token, check_body, check_site, check_token, token_of

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN = "t" * 43
TOKENS = (Token(TOKEN, Scope.CONTROL, "ana"), Token("r" * 43, Scope.READ, "wall"))
WRITE = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json", "content-length": "20"}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"host": "127.0.0.1:8701"}, True),
        ({"host": "LocalHost:1"}, True),
        ({"host": "[::1]:8701"}, True),
        ({"host": "localhost:8701", "origin": "http://localhost:8701", "sec-fetch-site": "same-origin"}, True),
        ({}, False),
        ({"host": "evil.example:8701"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": "localhost:8701", "origin": "http://localhost:9999"}, False),
        ({"host": "localhost:8701", "origin": "null"}, False),
        ({"host": "localhost:8701", "origin": "http://[bad"}, False),
        ({"host": "localhost:8701", "sec-fetch-site": "cross-site"}, False),
        ({"host": "localhost:8701", "sec-fetch-site": "same-site"}, False),
    ],
)
def test_only_this_panels_own_page_or_no_page_may_ask(headers: dict[str, str], allowed: bool) -> None:
    """A foreign host name, a foreign or unreadable Origin and a cross-site fetch are refused with 403."""
    refusal = check_site("/api/status", Headers(headers), HOSTS)
    assert (refusal is None) == allowed
    assert refusal is None or refusal.status == 403


def check_write(headers: Headers) -> Refusal | None:
    """What the guard says of a write with these headers."""
    return check_token("/api/pause", token_of(headers, TOKENS), is_write=True) or check_body(headers)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, None),
        ({"content-type": "application/json; charset=utf-8"}, None),
        ({"authorization": ""}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {'r' * 43}"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-length": str((64 << 10) + 1)}, 413),
        ({"content-length": "9" * 5000}, 413),
        ({"content-length": "-1"}, 413),
    ],
)
def test_a_write_needs_the_token_and_json_of_an_allowed_size(change: dict[str, str], status: int | None) -> None:
    """Each missing or wrong part is refused with its own status."""
    refusal = check_write(Headers({**WRITE, **change}))
    assert (refusal.status if refusal else None) == status


@given(
    given_token=st.text(st.characters(max_codepoint=255)).filter(
        lambda text: text.strip() not in {one.value for one in TOKENS}
    )
)
def test_no_other_text_passes_for_the_token(given_token: str) -> None:
    """Whatever is sent instead of the token is refused, and never breaks the comparison."""
    refusal = check_write(Headers({**WRITE, "authorization": f"Bearer {given_token}"}))
    assert refusal is not None
    assert refusal.status == 401


@pytest.mark.parametrize(
    ("path", "token", "allowed"), [("/api/status", None, False), ("/api/events", TOKENS[1], True), ("/", None, True)]
)
def test_looking_needs_a_token_of_either_scope(path: str, token: Token | None, allowed: bool) -> None:
    """Status, money and positions are nobody else's business; the page's own files say nothing and are for everybody."""
    assert (check_token(path, token, is_write=False) is None) == allowed


@given(gaps=st.lists(st.floats(0, 3), max_size=200))
def test_a_bucket_never_lets_more_through_than_its_rate(gaps: list[float]) -> None:
    """In any time t at most burst + rate * t requests pass."""
    now = 0.0
    bucket = Bucket(rate=2, burst=5, now_s=lambda: now)
    passed = 0
    for gap in gaps:
        now += gap
        passed += bucket.take()
    assert passed <= 5 + 2 * now + 1e-6
