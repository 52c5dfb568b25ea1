"""A peer: the proxy that one writes first, FastAPI in front and httpx behind. It needs nothing of this repository.

    python fastapi_proxy.py PORT KEY ENGINE_URL…

One key, engines in turns, streams handed on as they come. No limits, queue, audit or metrics.
"""

import hmac
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

PORT, KEY, ENGINES = int(sys.argv[1]), sys.argv[2], itertools.cycle(sys.argv[3:])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=1024)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    if not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {KEY}"):
        raise HTTPException(401, "wrong key")
    fields = await request.json()
    client: httpx.AsyncClient = app.state.client
    url = f"{next(ENGINES)}/v1/chat/completions"
    if not fields.get("stream"):
        answer = await client.post(url, json=fields)
        return Response(answer.content, answer.status_code, media_type="application/json")
    asked = client.build_request("POST", url, json=fields)
    reply = await client.send(asked, stream=True)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in reply.aiter_raw():
                yield chunk
        finally:
            await reply.aclose()

    return StreamingResponse(chunks(), reply.status_code, media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False, loop="uvloop")
