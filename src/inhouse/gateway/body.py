"""The whole body of a request that is not hot, within limits of size and time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from inhouse.config import GatewaySpec
from inhouse.errors import BodyTooLarge, RequestTimeout, UnsupportedMedia


async def read_body(request: Request, spec: GatewaySpec) -> bytes:
    """Raises `UnsupportedMedia`, `BodyTooLarge`, `RequestTimeout`."""
    limit = spec.request_bytes_max
    media = request.headers.get("content-type", "json")
    if "json" not in media.lower():
        raise UnsupportedMedia("the body must be JSON: send the header `Content-Type: application/json`")
    body = bytearray()
    if int(request.headers.get("content-length", "0")) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes; send less")
    try:
        async with asyncio.timeout(spec.body_timeout):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise BodyTooLarge(f"the body is larger than {limit} bytes; send less")
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {spec.body_timeout:g} s; send it faster") from None
    return bytes(body)
