"""What the engine could do and a client must not reach: paths and fields that are not on the list."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from plain_http import PlainHttp

ENGINE_PATHS = [
    "/props",
    "/lora-adapters",
    "/completion",
    "/completions",
    "/chat/completions",
    "/infill",
    "/apply-template",
    "/embedding",
    "/embeddings",
    "/rerank",
    "/reranking",
    "/v1/reranking",
    "/models",
    "/models/load",
    "/api/show",
    "/api/chat",
    "/api/tags",
    "/slots/0?action=save",
    "/slots/0?action=restore",
    "/slots/0?action=erase",
    "/v1/chat/completions/input_tokens",
    "/v1/responses/input_tokens",
    "/v1/audio/transcriptions",
    "/v1/health",
    "/cors-proxy",
    "/tools",
]
ENGINE_FIELDS = [
    "id_slot",
    "cache_prompt",
    "lora",
    "n_predict",
    "n_keep",
    "n_probs",
    "n_indent",
    "grammar",
    "grammar_lazy",
    "json_schema",
    "samplers",
    "mirostat",
    "dynatemp_range",
    "dry_multiplier",
    "t_max_predict_ms",
    "return_tokens",
    "timings_per_token",
    "post_sampling_probs",
    "response_fields",
    "image_data",
    "input_prefix",
    "chat_format",
    "reasoning_format",
    "add_generation_prompt",
    "speculative.n_max",
]
ODD_SPELLINGS = [
    "/v1/chat/completions/",
    "//v1/chat/completions",
    "/v1/chat/../chat/completions",
    "/V1/chat/completions",
    "/v1/chat%2Fcompletions/x",
    "/health/live/../../props",
    "/tokenize/",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ENGINE_PATHS)
def test_a_path_that_only_the_engine_knows(http: PlainHttp, path: str, method: str) -> None:
    """404 in the API's own shape, with the gateway's own words: the engine was not asked."""
    reply = http.ask(method, path, {"model": "demo"} if method == "POST" else None)
    assert reply.status == 404
    assert reply.json["error"]["code"] == "not_found"
    assert "/docs" in reply.json["error"]["message"]


@pytest.mark.parametrize("path", ODD_SPELLINGS)
def test_another_spelling_of_a_path(http: PlainHttp, path: str) -> None:
    """A path is taken as it is written: no redirect, no second name."""
    reply = http.post(path, {"model": "demo"})
    assert reply.status == 404
    assert reply.json["error"]["code"] == "not_found"


SHORT: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"max_tokens": 1},
    "/v1/completions": {"max_tokens": 1},
    "/v1/responses": {"max_output_tokens": 1},
    "/generate": {"max_tokens": 1},
}


@pytest.mark.parametrize("field", ENGINE_FIELDS)
def test_a_field_that_only_the_engine_knows(http: PlainHttp, field: str) -> None:
    """It is passed over in each API and named in a header: who could pin a slot could disturb others."""
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
        "/v1/completions": {"prompt": "hello"},
        "/v1/embeddings": {"input": "hello"},
        "/v1/responses": {"input": "hello"},
        "/generate": {"text": "hello"},
    }
    for path, body in bodies.items():
        reply = http.post(path, {"model": "demo", **body, **SHORT.get(path, {}), field: 1})
        assert (path, reply.status, reply.headers["x-inhouse-ignored"]) == (path, 200, field)


@pytest.mark.parametrize("field", ["id_slot", "grammar", "cache_prompt"])
def test_a_field_hidden_in_the_extra_body_of_the_official_client(client: openai.OpenAI, field: str) -> None:
    """It is passed over; the client can read that in a header."""
    raw = client.chat.completions.with_raw_response.create(
        model="demo", messages=[{"role": "user", "content": "hello"}], max_tokens=1, extra_body={field: 0}
    )
    assert raw.headers["x-inhouse-ignored"] == field
    assert raw.parse().choices
