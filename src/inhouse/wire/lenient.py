"""Fields that an API does not have: passed over and named, or refused, as the stack says.

Clients send new fields before a gateway knows them. A body is first parsed as if all its fields existed; only one with
strange fields is read a second time, without them. None of them goes on to an engine: what an engine is sent is
written anew from fields that are known here to concern this one request alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from inhouse.config.requests import RequestsSpec
from inhouse.errors import BadRequest, InvalidJson, UnknownParameter
from inhouse.wire.guard import check_body

T = TypeVar("T")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAMES_MAX = 8
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def leniently(parse: Callable[..., T], body: bytes, limits: RequestsSpec, *beside: object) -> tuple[T, tuple[str, ...]]:
    """What `parse` makes of the body, and the names of the fields that it was not shown. Raises BadRequest.

    `beside` is what else it is given.
    """
    check_body(body, limits)
    try:
        return parse(body, *beside), ()
    except UnknownParameter as error:
        if limits.unknown_fields == "refuse":
            raise
        known, unknown = _split(body, error)
        try:
            return parse(known, *beside), unknown
        except BadRequest as other:
            if other.message.startswith("missing required"):  # the odd one may be its misspelt name
                raise error from None
            raise


def _split(body: bytes, error: UnknownParameter) -> tuple[bytes, tuple[str, ...]]:
    try:
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson(f"the body is not valid JSON behind `{error.param}`") from None
    unknown = tuple(name for name in fields if name not in error.known)
    return msgspec.json.encode({name: fields[name] for name in fields if name in error.known}), unknown


def ignored_header(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Tells a client which of its fields had no effect."""
    shown = [_ODD.sub("?", name[:64]) for name in names[:_NAMES_MAX]]
    more = [f"{len(names) - _NAMES_MAX} more"] if len(names) > _NAMES_MAX else []
    return b"x-inhouse-ignored", ", ".join(shown + more).encode()
