"""The shape of a request, checked before and after it is parsed: what is cheap to send and dear to handle.

Before: UTF-8 and depth, on the bytes. Nearly every body has fewer brackets than levels are allowed, and then counting
them is all; only bodies of many brackets are looked at closely. After: how many messages, choices, stop sequences and
tools; NUL characters, which some engines take for the end of a text.

Lone surrogates (`\\ud800`) are no JSON text to the decoder. Of a key that is given twice the last one counts,
everywhere: what an engine gets is written anew from what was parsed, so nobody further down can read it otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from inhouse.config.requests import RequestsSpec
from inhouse.errors import BadRequest, InvalidJson, RequestTooComplex
from inhouse.wire.chat import ChatRequest, Message, TextPart

_NOT_BRACKETS_OR_QUOTES = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_LARGE = 8192
"""From here on a copy of the body costs more than to look for its brackets one by one."""
_NOR_ESCAPES = bytes(byte for byte in range(256) if byte not in b'[]{}"\\/bfnrtu')
"""Of an escape both bytes are kept, so that no quote moves behind a backslash."""


def check_body(body: bytes | bytearray, limits: RequestsSpec) -> None:
    """Raises InvalidJson for what is not UTF-8, RequestTooComplex for what is nested too deeply."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidJson(
                f"the body is not valid JSON: it is not valid UTF-8 (byte {error.start}); send it as UTF-8"
            ) from None
    if _many_openings(body, limits.depth_max) and _deeper(body, limits.depth_max):
        raise RequestTooComplex(
            f"the body is nested more than {limits.depth_max} levels deep; "
            "send a flatter one, or raise `requests.depth_max` in inhouse.yaml"
        )


def _many_openings(body: bytes | bytearray, levels: int) -> bool:
    """Whether more lists and objects begin in it than are allowed to lie in each other."""
    if len(body) < _LARGE:
        return 2 * len(body) - len(body.replace(b"{", b"")) - len(body.replace(b"[", b"")) > levels
    found = 0
    for opening in (b"{", b"["):
        at = body.find(opening)
        while at >= 0:
            found += 1
            if found > levels:
                return True
            at = body.find(opening, at + 1)
    return False


def _deeper(body: bytes | bytearray, levels: int) -> bool:
    """Whether lists and objects, brackets in texts left out, go deeper than `levels`."""
    if b"\\" in body:
        body = body.translate(None, _NOR_ESCAPES)
        # pairs first: the quote after two backslashes ends a text, that after one does not
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(body.translate(None, _NOT_BRACKETS_OR_QUOTES).split(b'"')[::2])
    depth = 0
    for bracket in brackets:
        if bracket in b"[{":
            depth += 1
            if depth > levels:
                return True
        else:
            depth -= 1
    return False


def check_chat(request: ChatRequest, limits: RequestsSpec, *, prompt_param: str, stop_param: str = "stop") -> None:
    """The counts of a chat request, under the names of the client's API. Raises RequestTooComplex, BadRequest."""
    check_messages(request.messages, limits, prompt_param=prompt_param)
    if request.n is not None or request.stop is not None:
        check_sampling(request.n, request.stop, limits, stop_param=stop_param)
    if request.tools is not None and len(request.tools) > limits.tools_max:
        raise _too_many("tools", len(request.tools), "tools", "tools_max", limits.tools_max)


def check_messages(messages: Sequence[Message], limits: RequestsSpec, *, prompt_param: str) -> None:
    """How many there are, and NUL characters. Raises RequestTooComplex, BadRequest."""
    if len(messages) > limits.messages_max:
        raise _too_many(prompt_param, len(messages), "messages", "messages_max", limits.messages_max)
    for index, message in enumerate(messages):
        content = message.content
        if content is not None and (type(content) is not str or "\0" in content):
            _check_text(message, index, prompt_param)


def check_sampling(
    choices: int | None, stop: str | Sequence[str] | None, limits: RequestsSpec, *, stop_param: str = "stop"
) -> None:
    """The counts that chat and text completions share. Raises RequestTooComplex."""
    if choices is not None and choices > limits.choices_max:
        raise _too_many("n", choices, "answers to one prompt", "choices_max", limits.choices_max)
    if stop is None:
        return
    sequences = (stop,) if isinstance(stop, str) else stop
    if len(sequences) > limits.stop_sequences_max:
        raise _too_many(stop_param, len(sequences), "stop sequences", "stop_sequences_max", limits.stop_sequences_max)
    longest = max(map(len, sequences), default=0)
    if longest > limits.stop_characters_max:
        raise _too_many(
            stop_param, longest, "characters in one sequence", "stop_characters_max", limits.stop_characters_max
        )


def check_no_nul(text: str, param: str) -> None:
    """Raises BadRequest."""
    if "\0" in text:
        raise BadRequest(f"`{param}` has a NUL character (\\u0000), which is no text; leave it out", param=param)


def _check_text(message: Message, index: int, prompt_param: str) -> None:
    content = message.content
    if isinstance(content, str):
        if "\0" in content:
            check_no_nul(content, _where(prompt_param, index))
    elif content is not None:
        for part in content:
            if isinstance(part, TextPart) and "\0" in part.text:
                check_no_nul(part.text, _where(prompt_param, index))


def _where(prompt_param: str, index: int) -> str:
    # other APIs' items do not map one to one to messages
    return f"messages[{index}].content" if prompt_param == "messages" else prompt_param


def _too_many(param: str, count: int, what: str, name: str, limit: int) -> RequestTooComplex:
    return RequestTooComplex(
        f"`{param}` asks for {count} {what}, at most {limit} are taken; "
        f"send fewer, or raise `requests.{name}` in inhouse.yaml",
        param=param,
    )
