"""The engine's paths: OpenAI's, `/generate`, health and metrics, and those of llama-server that count tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inhouse.errors import ApiError, InternalError, MethodNotAllowed, NotFound
from inhouse.hf_engine import answering, asks, prompts, shapes
from inhouse.hf_engine.answering import Answering, HungUp, read_body, ready
from inhouse.hf_engine.loading import Loaded
from inhouse.hf_engine.settings import Settings
from inhouse.hf_engine.worker import Worker
from inhouse.wire import errors

_encode = msgspec.json.encode
Counted = Callable[[Loaded, bytes], dict[str, Any]]


def build(settings: Settings, worker: Worker) -> Starlette:
    """The ASGI app."""

    async def health(request: Request) -> Response:
        ready(worker, settings.name)
        return _json({"status": "ok"})

    async def metrics(request: Request) -> Response:
        return Response(worker.figures.page(), media_type="text/plain; version=0.0.4")

    async def models(request: Request) -> Response:
        loaded = ready(worker, settings.name)
        card = {"id": settings.name, "object": "model", "created": 0, "owned_by": "inhouse"}
        return _json({"object": "list", "data": [{**card, "max_model_len": loaded.context_tokens}]})

    async def props(request: Request) -> Response:
        loaded = ready(worker, settings.name)
        return _json(
            {
                "total_slots": settings.rules.rows_max,
                "default_generation_settings": {"n_ctx": loaded.context_tokens},
                "model_alias": settings.name,
                "build_info": "inhouse-transformers-engine",
            }
        )

    async def slots(request: Request) -> Response:
        loaded, running = ready(worker, settings.name), worker.running
        context = loaded.context_tokens
        rows = range(settings.rules.rows_max)
        return _json([{"id": row, "n_ctx": context, "is_processing": row < running} for row in rows])

    def counting(count: Counted) -> Any:
        async def counted(request: Request) -> Response:
            body = await read_body(request.receive, settings.body_bytes_max)
            return _json(await asyncio.to_thread(count, ready(worker, settings.name), body))

        return counted

    def answers(path: str, understand: answering.Understand) -> Route:
        app = Answering(worker, settings.name, settings.body_bytes_max, understand)
        return Route(path, app, methods=["POST"])

    return Starlette(
        routes=[
            answers("/v1/chat/completions", answering.chat),
            answers("/v1/completions", answering.text),
            answers("/v1/embeddings", answering.embedding),
            answers("/generate", answering.generate),
            Route("/health", health),
            Route("/v1/models", models),
            Route("/metrics", metrics),
            Route("/props", props),
            Route("/slots", slots),
            Route("/tokenize", counting(_tokenize), methods=["POST"]),
            Route("/detokenize", counting(_detokenize), methods=["POST"]),
            Route("/v1/chat/completions/input_tokens", counting(_input_tokens), methods=["POST"]),
        ],
        exception_handlers={
            ApiError: _refuse,
            HungUp: _nobody,
            HTTPException: _refuse_http,
            Exception: _refuse_fault,
        },
    )


def _tokenize(loaded: Loaded, body: bytes) -> dict[str, Any]:
    ask = asks.tokenize(body)
    return {"tokens": prompts.encoded(loaded, ask.content, special=ask.add_special)}


def _detokenize(loaded: Loaded, body: bytes) -> dict[str, Any]:
    return {"content": prompts.text_of(loaded, asks.detokenize(body).tokens)}


def _input_tokens(loaded: Loaded, body: bytes) -> dict[str, Any]:
    return {"input_tokens": len(prompts.chat_tokens(loaded, asks.chat(body)))}


def _json(body: Any) -> Response:
    return Response(_encode(body), media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    headers = {name.decode(): value.decode() for name, value in errors.headers(error)}
    return Response(shapes.refusal(error), error.status, headers, media_type="application/json")


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    path = request.url.path[:200]
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "POST")
        return await _refuse(request, MethodNotAllowed(f"{path} takes {allow}, not {request.method}", allow=allow))
    return await _refuse(request, NotFound(f"this engine has no {path}"))


async def _refuse_fault(request: Request, error: Exception) -> Response:
    return await _refuse(request, InternalError("an internal error of the engine"))
