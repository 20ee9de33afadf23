"""The relayer's part of the wire. It is asked with a relayer's or a builder's API key, which is not checked here."""

from __future__ import annotations

from aiohttp import web

from paper.body import read_json
from paper.errors import RefusedError
from paper.evm import checksum, is_address
from paper.exchange import Exchange

__all__ = ["routes"]


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return the relayer's routes."""

    async def deployed(request: web.Request) -> web.Response:
        """Whether a wallet exists: here every one does."""
        return web.json_response({"deployed": True, "address": request.query.get("address", "")})

    async def params(request: web.Request) -> web.Response:
        _check_key(request)
        address = request.query.get("address", "")
        if not is_address(address):
            raise RefusedError(400, "invalid address")
        nonce = exchange.relayer.nonce(checksum(address))
        await exchange.record.durable()
        return web.json_response({"address": checksum(address), "nonce": str(nonce)})

    async def submit(request: web.Request) -> web.Response:
        _check_key(request)
        return web.json_response(exchange.relayer.submit(await read_json(request)))

    async def transaction(request: web.Request) -> web.Response:
        _check_key(request)
        found = exchange.relayer.transaction(request.match_info["id"])
        if found is None:
            raise RefusedError(404, "transaction not found")
        return web.json_response(found)

    return [
        web.get("/deployed", deployed),
        web.get("/v1/account/transactions/params", params),
        web.get("/v1/account/transactions/{id}", transaction),
        web.post("/submit", submit),
    ]


def _check_key(request: web.Request) -> None:
    if "RELAYER_API_KEY" not in request.headers and "POLY_BUILDER_API_KEY" not in request.headers:
        raise RefusedError(401, "invalid authorization")
