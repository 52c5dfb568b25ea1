"""Bytes of a client to typed structs, with errors that a person can act on."""

from __future__ import annotations

import difflib
import re
from typing import Generic, TypeVar

import msgspec

from inhouse.errors import BadRequest, InvalidJson, UnknownParameter

S = TypeVar("S", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"^Object contains unknown field `(.*?)`(?: - at `(.*)`)?$")
_MISSING = re.compile(r"^Object missing required field `(.*?)`(?: - at `(.*)`)?$")
_AT = re.compile(r"^(.*) - at `(?:key in )?(.*)`$")


class RequestDecoder(Generic[S]):
    """Decodes one kind of request body. Errors name the field, what was expected and, for a typo, the nearest name."""

    def __init__(self, struct: type[S]) -> None:
        self._decoder = msgspec.json.Decoder(struct)
        self._fields = struct.__struct_encode_fields__

    def __call__(self, body: bytes | bytearray) -> S:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            # the decoder's message carries a position, never the content
            detail = str(error) if isinstance(error, msgspec.DecodeError) else "nested too deeply"
            raise InvalidJson(f"the body is not valid JSON: {detail}") from None
        except UnicodeDecodeError:
            raise InvalidJson("the body is not valid JSON: it is not valid UTF-8") from None

    def _explain(self, text: str) -> BadRequest:
        if match := _UNKNOWN.match(text):
            name = _path(match[2]) + match[1]
            near = difflib.get_close_matches(match[1], self._fields, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else "; the fields that exist are listed in /docs"
            return UnknownParameter(f"unknown parameter `{name}`{hint}", param=name, known=self._fields)
        if match := _MISSING.match(text):
            name = _path(match[2]) + match[1]
            return BadRequest(f"missing required parameter `{name}`", param=name)
        if match := _AT.match(text):
            name = match[2].removeprefix("$").removeprefix(".")
            return BadRequest(f"invalid value for `{name}`: {_lower_first(match[1])}", param=name)
        return BadRequest(f"the body is not what this endpoint takes: {_lower_first(text)}")


def _path(at: str | None) -> str:
    inner = (at or "").removeprefix("$").removeprefix(".")
    return f"{inner}." if inner else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
