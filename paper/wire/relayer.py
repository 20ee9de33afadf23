"""The relayer's part of the wire, asked with a relayer's or a builder's API key, which is not checked here; and the
little of a chain's JSON-RPC that polymarket-client needs for it.
"""

from __future__ import annotations

from aiohttp import web

from paper.engine.exchange import Exchange
from paper.engine.signing import CHAIN_ID, checksum, is_address
from paper.errors import RefusedError
from paper.wire.body import read_json

__all__ = ["routes"]

_SIGNATURE_TYPES = {"PROXY": 1, "SAFE": 2, "WALLET": 3}
_RELAY = "0x000000000000000000000000000000000000bEEF"  # who would send a proxy's transaction; part of what is signed
_NO_METHOD = -32_601


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return the relayer's routes."""

    async def deployed(request: web.Request) -> web.Response:
        """Whether a wallet exists: here every one does."""
        return web.json_response({"deployed": True, "address": request.query.get("address", "")})

    async def nonce_of(request: web.Request, signature_type: int) -> tuple[str, str]:
        _check_key(request)
        address = request.query.get("address", "")
        if not is_address(address):
            raise RefusedError(400, "invalid address")
        nonce = exchange.relayer.nonce(checksum(address), signature_type)
        await exchange.record.durable()
        return checksum(address), str(nonce)

    async def params(request: web.Request) -> web.Response:
        signature_type = _SIGNATURE_TYPES.get(request.query.get("type", "WALLET"))
        if signature_type is None:
            raise RefusedError(400, f"type must be one of {', '.join(_SIGNATURE_TYPES)}")
        address, nonce = await nonce_of(request, signature_type)
        return web.json_response({"address": address, "nonce": nonce})

    async def relay_payload(request: web.Request) -> web.Response:
        """The same for a proxy wallet: its signature names the relay, whose address this is."""
        _, nonce = await nonce_of(request, _SIGNATURE_TYPES["PROXY"])
        return web.json_response({"address": _RELAY, "nonce": nonce})

    async def submit(request: web.Request) -> web.Response:
        _check_key(request)
        return web.json_response(exchange.relayer.submit(await read_json(request)))

    async def transaction(request: web.Request) -> web.Response:
        _check_key(request)
        row = exchange.relayer.transaction(request.match_info["id"])
        if row is None:
            raise RefusedError(404, "transaction not found")
        return web.json_response(row)

    async def rpc(request: web.Request) -> web.Response:
        """Which chain this would be, and its time; there is no chain to ask for more."""
        call = await read_json(request)
        if not isinstance(call, dict):
            raise RefusedError(400, "expected one JSON-RPC call")
        results: dict[object, object] = {
            "eth_chainId": hex(CHAIN_ID),
            "eth_getBlockByNumber": {"timestamp": hex(exchange.shown_ms() // 1000)},
        }
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": call.get("id")}
        method = call.get("method")
        if isinstance(method, str) and method in results:
            return web.json_response(answer | {"result": results[method]})
        error = {"code": _NO_METHOD, "message": "paper has no chain: this method is not there"}
        return web.json_response(answer | {"error": error})

    return [
        web.get("/deployed", deployed),
        web.get("/v1/account/transactions/params", params),
        web.get("/v1/account/transactions/{id}", transaction),
        web.get("/relay-payload", relay_payload),
        web.post("/submit", submit),
        web.post("/rpc", rpc),
        web.post("/rpc/", rpc),
    ]


def _check_key(request: web.Request) -> None:
    if "RELAYER_API_KEY" not in request.headers and "POLY_BUILDER_API_KEY" not in request.headers:
        raise RefusedError(401, "invalid authorization")
