"""How several engines say the same things: paths, errors, streams, usage, what they tell of themselves.

As read in their sources and documents: vLLM 0.30 to 0.33, SGLang 0.5.23, TGI 3.3, TensorRT-LLM 1.2, Ollama 0.35. A
dialect changes the words only; how long something takes and how it fails is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Fields = dict[str, Any]
_OF_LLAMA = frozenset({b"/props", b"/slots", b"/v1/chat/completions/input_tokens"})
_COUNTING = frozenset({b"/tokenize", b"/detokenize"})
_OF_TGI = frozenset({b"/chat_tokenize"})
_EMBEDDING, _RERANKING = b"/v1/embeddings", b"/v1/rerank"


_KINDS: dict[str, str] = {"invalid_request_error": "BadRequestError", "exceed_context_size_error": "BadRequestError"}


def _of_vllm(status: int, kind: str, message: str, more: Fields) -> Fields:
    return {"error": {"message": message, "type": _KINDS.get(kind, kind), "param": None, "code": status}}


def _of_llama(status: int, kind: str, message: str, more: Fields) -> Fields:
    return {"error": {"code": status, "message": message, "type": kind, **more}}


def _flat(status: int, kind: str, message: str, more: Fields) -> Fields:
    return {"object": "error", "message": message, "type": _KINDS.get(kind, kind), "param": None, "code": status}


def _of_tgi(status: int, kind: str, message: str, more: Fields) -> Fields:
    return {"error": message, "error_type": "validation" if status in (400, 422) else "overloaded"}


def _of_ollama(status: int, kind: str, message: str, more: Fields) -> Fields:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


@dataclass(frozen=True, slots=True)
class Dialect:
    """The parts of an answer that differ. `choice`, `event` and `last` are JSON members, written behind others."""

    name: str
    lacks: frozenset[bytes] = frozenset()
    """Paths of the fake engine that this one has not."""
    health_body: bytes = b""
    metrics_path: bytes = b"/metrics"
    metrics_as: str = "none"
    owner: str = "inhouse"
    tells_context: bool = False
    """In `/v1/models`, as `max_model_len`."""
    opening: str | None = '{"role":"assistant","content":""}'
    """The first delta; None: every delta names the role and there is none for itself."""
    choice: str = ""
    event: str = ""
    last: str = ""
    """Of the choice that ends the answer."""
    timings: bool = False
    cached: bool = True
    """`usage` says what came from the prefix cache."""
    error: Callable[[int, str, str, Fields], Fields] = _of_vllm
    bare_scores: bool = False
    """Ranked documents come as a bare list, without usage."""
    too_long: str = ""
    """What it says of a prompt of {prompt} tokens where {context} fit."""
    too_long_status: int = 400


DIALECTS = {
    one.name: one
    for one in (
        Dialect(
            "llamacpp",
            lacks=_OF_TGI,
            health_body=b'{"status":"ok"}',
            metrics_as="llamacpp",
            tells_context=True,
            opening='{"role":"assistant","content":null}',
            timings=True,
            error=_of_llama,
        ),
        Dialect(
            "vllm",
            lacks=_OF_LLAMA | _OF_TGI,
            metrics_as="vllm",
            owner="vllm",
            tells_context=True,
            choice=',"logprobs":null,"token_ids":null',
            last=',"stop_reason":null',
            too_long="This model's maximum context length is {context} tokens. However, your request has {prompt} "
            "input tokens. Please reduce the length of the input messages.",
        ),
        Dialect(
            "sglang",
            lacks=_OF_LLAMA | _OF_TGI,
            metrics_as="sglang",
            owner="sglang",
            tells_context=True,
            choice=',"logprobs":null,"matched_stop":null',
            event=',"usage":null',
            error=_flat,
            bare_scores=True,
            too_long="The input ({prompt} tokens) is longer than the model's context length ({context} tokens).",
        ),
        Dialect(
            "tgi",
            lacks=_OF_LLAMA | {b"/detokenize", _EMBEDDING, _RERANKING},
            metrics_as="tgi",
            owner="tgi",
            opening=None,
            choice=',"logprobs":null',
            event=',"system_fingerprint":"3.3.7-native","usage":null',
            cached=False,
            error=_of_tgi,
            too_long="Input validation error: `inputs` tokens + `max_new_tokens` must be <= {context}. Given: {prompt} "
            "`inputs` tokens and 1 `max_new_tokens`",
            too_long_status=422,
        ),
        Dialect(
            "tensorrt-llm",
            lacks=_OF_LLAMA | _COUNTING | _OF_TGI | {_EMBEDDING, _RERANKING},
            metrics_path=b"/prometheus/metrics",
            metrics_as="trtllm",
            owner="tensorrt_llm",
            choice=',"logprobs":null,"stop_reason":null',
            error=_flat,
            too_long="The sum of prompt length ({prompt}) and query length (1) should not exceed max_num_tokens "
            "({context})",
        ),
        Dialect(
            "ollama",
            lacks=_OF_LLAMA | _COUNTING | _OF_TGI | {_RERANKING, b"/health", b"/v1/health", b"/ping"},
            owner="library",
            opening=None,
            event=',"system_fingerprint":"fp_ollama"',
            cached=False,
            error=_of_ollama,
        ),
    )
}
NAMES = tuple(DIALECTS)
