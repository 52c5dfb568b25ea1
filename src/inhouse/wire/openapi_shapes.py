"""Shapes of the small endpoints that have no codec of their own: tokens, models, slots, health."""

from __future__ import annotations

from msgspec import Struct


class TokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A text to cut into tokens. Without `model`, the first model of the stack does it."""

    content: str
    model: str = ""
    add_special: bool = False
    """Whether the tokens that open a text in this model's vocabulary are put before it."""


class TokenizeBody(Struct):
    tokens: list[int]


class DetokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Tokens to join into a text. Without `model`, the first model of the stack does it."""

    tokens: list[int]
    model: str = ""


class DetokenizeBody(Struct):
    content: str


class ModelCard(Struct, tag="model", tag_field="object"):
    """A model that can be asked for by its `id`, and what is known of the replica behind it."""

    id: str
    created: int
    owned_by: str
    state: str
    engine: str
    context: int | None
    """Tokens of one request, prompt and answer together."""
    slots: int | None
    capabilities: list[str]
    """Of `chat`, `tools`, `json_schema`, `logprobs`, `embeddings`, `rerank`, `lora`."""


class ModelList(Struct, tag="list", tag_field="object"):
    data: list[ModelCard]


class EngineSlot(Struct):
    id: int
    n_ctx: int
    is_processing: bool


class SlotReport(Struct):
    """Requests of one model: how many fit at once, how many are served, how many wait; and what its engine says."""

    model: str
    state: str
    capacity: int
    in_service: int
    waiting: int
    slots: list[EngineSlot]


class LiveBody(Struct):
    status: str


class HealthBody(Struct):
    """Whether at least one model is ready, and the state of each."""

    status: str
    models: dict[str, str]
    stores: dict[str, str] = {}
    """Where stores are shared: `ok` or `away`, by what suffers from it."""


class ErrorDetails(Struct):
    message: str
    """Names the thing, the limit and the way out."""
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """A refusal, in the shape of the OpenAI API."""

    error: ErrorDetails
