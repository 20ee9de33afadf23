"""What the venue's refusals mean for the person who runs the bot, and what to do. Pure."""

from __future__ import annotations

from polymarket.errors import PolymarketError, RequestRejectedError

_STATUSES = {
    401: "the venue does not accept these API credentials; if the wallet got a new API key since, move the credentials file "
    "away and run `python -m bot credentials`",
    403: "the venue refuses this machine or account: it does not serve every country (polymarket.com/api/geoblock tells), "
    "and an account can be banned",
}
_ORDER_TEXTS = (  # Part of a refusal of an order; what it means for every further order (venue.md 1.2, 4.2, 5.1).
    (
        "deposit wallet flow",
        "the venue wants this account to trade from its deposit wallet: set BOT_SIGNATURE_TYPE=3, BOT_WALLET",
    ),
    (
        "invalid signature",
        "the venue does not accept our signatures: BOT_SIGNATURE_TYPE and BOT_WALLET must be the account's",
    ),
    ("closed only", "the venue lets this account only sell: entries stay closed until its support lifted that"),
    ("closed-only", "the venue lets this account only sell: entries stay closed until its support lifted that"),
    ("banned", "the venue has banned this account: nothing can be traded; ask its support"),
    ("invalid order version", "the venue wants another form of order than this release signs: run a newer release"),
    ("order_version_mismatch", "the venue wants another form of order than this release signs: run a newer release"),
)


def in_words(error: PolymarketError) -> str:
    """An error of the library with what it means, where that is known."""
    meaning = _STATUSES.get(error.status) if isinstance(error, RequestRejectedError) else None
    return f"{error}" if meaning is None else f"{meaning} ({error})"


def account_trouble(status: int, text: str) -> str | None:
    """What the refusal of one order says of every further one of this account, or None where it says nothing."""
    for part, meaning in _ORDER_TEXTS:
        if part in text.lower():
            return meaning
    return _STATUSES.get(status)
