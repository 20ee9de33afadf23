"""What the venue's answer to a sent order means. Pure.

Three outcomes only (design 6). The rule: *refused* needs an answer that says so and that only an order which is not
there can get; everything else is in doubt.

| answer | outcome | source |
|---|---|---|
| 2xx, success, no errorMsg, an order id, live / matched / delayed | accepted | docs create-order; client `_is_accepted` |
| "Duplicated", whatever the status | accepted, `duplicate`: it arrived before | docs error list, venue.md 1.6 |
| 2xx, success false, errorMsg | refused | docs; client `RejectedOrder` |
| 2xx, success true *and* errorMsg | refused where the text is a known refusal, else in doubt | docs: "a failure" |
| 2xx, status unmatched | accepted: it was there; what became of it is asked | docs create-order |
| 2xx, unreadable or another form | in doubt | |
| 400, JSON error | refused; FAK or FOK that met nothing: code `no_match` | venue.md 4.2 |
| 400, "could not run / insert", "delay", "context canceled" and the like | in doubt: the engine may have it | docs error list |
| 400, not the venue's JSON | in doubt: not the venue's word | |
| 401, 403, 429 | refused: it never reached the engine | docs; venue.md 4.1 |
| 404 | in doubt: any text with "not found" turns the real status into 404, "context canceled" into 400 | docs error codes |
| 425 | refused, restarting | venue.md 4.2; client `_detect_trading_restriction` |
| 503 post-only, cancel-only, disabled | refused with that mode | venue.md 4.2 |
| every other status | in doubt | |

A refusal speaks of *this* request. When the same bytes were sent before and that is in doubt still, only `duplicate`
or what the venue shows settles it: a restart or an empty balance may refuse the second while the first was taken.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import httpx
from polymarket.errors import PolymarketError, RequestRejectedError

from bot.reasons import Reason, ReasonCode
from bot.venue.decoding import OddError, as_name, as_units, clean, decode, describe
from bot.venue.types import (
    BASE_UNITS,
    OFF_SCALE,
    Accepted,
    Answer,
    InDoubt,
    Refused,
    VenueMode,
    order_word,
    signed_amounts,
)
from ledger.schema import OrderCode
from ledger.values import Side

# What the venue's refusals mean for the person who runs the bot, and what to do. Pure.


_STATUSES = {
    401: "the venue does not accept these API credentials; if the wallet got a new API key since, move the credentials file "
    "away and run `./ns credentials`",
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


def account_trouble(status: int, text: str) -> Reason | None:
    """What the refusal of one order says of every further one of this account, or None where it says nothing."""
    for part, meaning in _ORDER_TEXTS:
        if part in text.lower():
            return Reason(ReasonCode.ACCOUNT, meaning)
    return Reason(ReasonCode.ACCOUNT, _STATUSES[status]) if status in _STATUSES else None


# What the venue's answer to a sent order means. Pure.


DUPLICATE = "duplicate"
"""Status of an accepted answer: these bytes are at the venue from an earlier sending."""
NO_MATCH = OrderCode.NO_MATCH
"""Code of a refusal: a FAK or FOK met nothing to trade with. Clean: no fill, nothing rests."""
NOT_SENT = "not_sent"
"""Code of a refusal: this request never left (no connection, or the channel is closed)."""

_TAKEN = frozenset({"live", "matched", "delayed", "unmatched", "canceled", "cancelled"})
_TURNED_AWAY = {401: "unauthorized", 403: "forbidden", 429: "rate_limited"}
_REFUSAL_CODES = (  # Part of the text, code. The docs' error list (create order) and the client's table.
    ("no orders found to match", NO_MATCH),
    ("couldn't be fully filled", NO_MATCH),
    ("not enough balance", "not_enough_balance"),
    ("minimum tick size", "tick"),
    ("tick size", "tick"),
    ("lower than the minimum", "min_size"),
    ("invalid expiration", "expiration"),
    ("crosses book", "post_only_would_cross"),
    ("not yet ready", "market_not_ready"),
    ("invalid signature", "signature"),
    ("invalid amount", "amounts"),
    ("does not exist", "unknown_market"),
    ("closed only", "closed_only"),
    ("closed-only", "closed_only"),
    ("banned", "banned"),
    ("closed", "market_closed"),
    ("resolved", "market_closed"),
    ("post-only mode", "post_only_mode"),
)
_MOST_BYTES = 1 << 20
_ROUNDING = 2  # base units
# What a part behind the door says of itself, and not of the order (docs error codes; gRPC and Go have the words): it may have it.
_AMBIGUOUS = (
    "could not run", "could not insert", "delayed", "delaying", "context cancel", "timed out", "timeout", "time-out",
    "deadline exceeded", "rpc error", "not found", "internal error", "internal server error", "unavailable", "unexpected eof",
    "connection reset", "connection refused", "connection closed", "broken pipe", "transport is closing",
)  # fmt: skip
_ORDER_ID = re.compile(r"0x[0-9a-fA-F]{64}")


def classify(status: int, body: str, side: Side) -> Answer:
    """The outcome of a POST /order that was answered with this HTTP status and body. side: of the order sent."""
    payload = _object(body)
    text = _error_text(payload)
    if "duplicated" in text.lower():
        return Accepted(order_id=_order_id(payload, text), status=DUPLICATE)
    if 200 <= status < 300:
        return _classify_success(payload, text, side)
    reason = f"{status} {text or 'without a readable reason'}"
    if status == 400:
        if not text or is_ambiguous(text):
            return InDoubt(reason)
        trouble = account_trouble(status, text)
        return Refused(reason, _code(payload, text), _mode(payload, text), trouble)
    if status == 425:
        return Refused(reason, "restarting", VenueMode.RESTARTING)
    if status in _TURNED_AWAY:
        return Refused(reason, _TURNED_AWAY[status], trouble=account_trouble(status, text))
    mode = _mode(payload, text)
    if status == 503 and mode is not VenueMode.NORMAL:
        return Refused(reason, _code(payload, text), mode)
    return InDoubt(reason)


def _classify_success(payload: dict[str, Any], text: str, side: Side) -> Answer:
    order_id, status, success = _named(payload, "orderID"), _named(payload, "status"), payload.get("success")
    word = order_word(status).lower()
    if success is True and not text and order_id and word in _TAKEN:
        given, taken = _amount(payload, "makingAmount"), _amount(payload, "takingAmount")
        matched, value = (taken, given) if side is Side.BUY else (given, taken)
        return Accepted(order_id, word, matched, None if matched is None else value)
    if text and not is_ambiguous(text):
        code = _code(payload, text)
        if success is False or code:
            return Refused(text, code, _mode(payload, text))
    text_of_it = f"success {describe(success)}, status {describe(payload.get('status'))}, error {text!r}"
    what = text_of_it if payload else "no readable JSON object"
    return InDoubt(f"expected an accepted or a refused order, found {what}")


def _amount(payload: dict[str, Any], name: str) -> int | None:
    """What was matched so far in base units: a buyer takes shares and gives money. None where the answer does not say.

    Zero says nothing: an order that is held is answered before it is matched.
    """
    amount = payload.get(name)
    try:
        matched = as_units(amount, "amount") if isinstance(amount, str) and amount else 0
    except OddError:  # the order is there all the same; how much of it was matched is asked for
        return None
    return matched if matched > 0 else None


def is_ambiguous(text: str) -> bool:
    """Whether an error's text says nothing of what was asked for, whatever the status: such texts replace the real one."""
    return any(part in text.lower() for part in _AMBIGUOUS)


def _object(body: str) -> dict[str, Any]:
    """The body as a JSON object; empty where it is none."""
    try:
        payload = decode(body, _MOST_BYTES)
    except OddError:  # no word of the venue: the outcome is in doubt, and says so
        return {}
    return payload if isinstance(payload, dict) else {}


def _error_text(payload: dict[str, Any]) -> str:
    for key in ("error", "errorMsg", "error_msg"):
        value = payload.get(key)
        if isinstance(value, str) and value:
            return clean(value)
    return ""


def _order_id(payload: dict[str, Any], text: str) -> str:
    """The id that the answer names, or '' where it names none."""
    named = _named(payload, "orderID")
    if named:
        return named
    match = _ORDER_ID.search(text)
    return match.group() if match else ""


def _named(payload: dict[str, Any], key: str) -> str:
    """A word of the answer; '' where it is none."""
    try:
        return as_name(payload.get(key), key)
    except OddError:
        return ""


def _code(payload: dict[str, Any], text: str) -> str:
    """Our code where the text is known, else the venue's own, else ''."""
    for part, code in _REFUSAL_CODES:
        if part in text.lower():
            return code
    return _named(payload, "code")


def _mode(payload: dict[str, Any], text: str) -> VenueMode:
    if payload.get("code") == "post_only_mode" or "post-only mode" in text:
        return VenueMode.POST_ONLY
    if "cancel-only" in text:
        return VenueMode.CANCEL_ONLY
    if "trading is currently disabled" in text.lower():
        return VenueMode.DISABLED
    return VenueMode.NORMAL


def judge(response: httpx.Response, body: str) -> Answer:
    """What the answer to an order's body means (see `classify`), with its amounts as they fit what was signed.

    Recorded are decimals ("5.12"); the venue's OpenAPI document has base units ("5120000"). What fits neither way says nothing.
    """
    side = Side(json.loads(body)["order"]["side"])
    answer, signed = classify(response.status_code, response.text, side), signed_amounts(body)
    if not isinstance(answer, Accepted) or answer.matched is None or signed is None:
        return answer
    for unit, least in ((1, 1), (BASE_UNITS, BASE_UNITS // 100)):
        matched, value = answer.matched // unit, None if answer.value is None else answer.value // unit
        given = value if side is Side.BUY else matched
        if least <= matched < max(signed) * OFF_SCALE and (given is None or given <= signed[0] + _ROUNDING):
            return replace(answer, matched=matched, value=value)
    return replace(answer, matched=None, value=None)
