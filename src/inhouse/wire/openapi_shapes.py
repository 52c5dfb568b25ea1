"""Shapes of the small endpoints that have no codec of their own: tokens and models."""

from __future__ import annotations

from msgspec import Struct


class TokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A text to cut into tokens. Without `model`, the first model of the stack does it."""

    content: str
    model: str | None = None
    add_special: bool = False
    """Whether the tokens that open a text in this model's vocabulary are put before it."""


class TokenizeBody(Struct):
    tokens: list[int]


class DetokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Tokens to join into a text. Without `model`, the first model of the stack does it."""

    tokens: list[int]
    model: str | None = None


class DetokenizeBody(Struct):
    content: str


class ModelCard(Struct, tag="model", tag_field="object"):
    """A model that can be asked for by its `id`."""

    id: str
    created: int
    owned_by: str


class ModelList(Struct, tag="list", tag_field="object"):
    data: list[ModelCard]


class ErrorDetails(Struct):
    message: str
    """Names the thing, the limit and the way out."""
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """A refusal, in the shape of the OpenAI API."""

    error: ErrorDetails
