"""Decoding where the client needs to hear what could have stood there instead, and where inside the request it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic

import msgspec

from inhouse.errors import BadRequest, UnknownParameter
from inhouse.wire.decode import RequestDecoder, S

_INDEX = re.compile(r"\[\d+\]")


class HintedDecoder(Generic[S]):
    """A `RequestDecoder` whose errors end in a hint.

    `hints` maps a path without its indices (`messages[].content[].type`) to the end of the sentence.
    """

    def __init__(self, struct: type[S], hints: Mapping[str, str]) -> None:
        self._decode = RequestDecoder(struct)
        self._hints = hints

    def __call__(self, body: bytes | bytearray | msgspec.Raw, *, at: str = "") -> S:
        """`at` is the path of `body` where it is a part of a request; errors name the whole path."""
        try:
            return self._decode(bytes(body))
        except BadRequest as error:
            raise self._complete(error, at) from None

    def _complete(self, error: BadRequest, at: str) -> BadRequest:
        if isinstance(error, UnknownParameter):
            return error
        param, message = error.param, error.message
        if at and param is None:
            param, message = at, f"invalid value for `{at}`: {message.partition(': ')[2] or message}"
        elif at:
            param, message = f"{at}.{param}", message.replace(f"`{param}`", f"`{at}.{param}`")
        hint = self._hints.get(_INDEX.sub("[]", param or ""))
        return type(error)(f"{message}; {hint}" if hint else message, param=param)
