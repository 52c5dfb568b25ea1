"""YAML as a person would have written it: block style, stable order, and the reason beside a value.

A value that is not obvious is wrapped by `why`; its sentence becomes a comment. Not here: what an object contains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PLAIN = re.compile(r"(?:--)?[A-Za-z/][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*|[1-9]\d*(?:m|Ki|Mi|Gi|Ti)")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])
"""What one or the other reader of YAML takes for something else than text."""
_BLOCK = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\u2028\u2029\ud800-\udfff\ufffe\uffff\t\r]+")
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Why:
    """A value and the reason for it."""

    value: Any
    sentence: str


def why(value: Any, sentence: str) -> Any:
    """The value, to be written with `sentence` as its comment."""
    return Why(value.value, f"{value.sentence} {sentence}") if isinstance(value, Why) else Why(value, sentence)


def bare(value: Any) -> Any:
    """The value without any reasons, as a cluster reads it."""
    if isinstance(value, Why):
        return bare(value.value)
    if isinstance(value, Mapping):
        return {key: bare(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [bare(inner) for inner in value]
    return value


def render(objects: Iterable[Any]) -> str:
    """The objects as one YAML stream."""
    return "---\n".join("".join(f"{line}\n" for line in _document(one)) for one in objects)


def _document(one: Any) -> Iterator[str]:
    if isinstance(one, Why):
        yield from _comment(one.sentence, "")
        one = one.value
    yield from _mapping(one, "") if one else ["{}"]


def _mapping(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, inner in value.items():
        yield from _entry(f"{indent}{scalar(key)}:", inner, indent)


def _entry(head: str, inner: Any, indent: str) -> Iterator[str]:
    """What follows a key: a scalar behind it, or a block below it."""
    sentence = ""
    if isinstance(inner, Why):
        inner, sentence = inner.value, inner.sentence
    if isinstance(inner, Mapping | list | tuple) and inner:
        yield from _comment(sentence, indent)
        yield head
        yield from _mapping(inner, f"{indent}  ") if isinstance(inner, Mapping) else _sequence(inner, f"{indent}  ")
    elif _is_block(inner):
        yield from _comment(sentence, indent)
        yield f"{head} {'|' if inner.endswith(chr(10)) else '|-'}"
        yield from (f"{indent}  {line}" if line else "" for line in inner.removesuffix("\n").split("\n"))
    else:
        line = f"{head} {_flow(inner)}"
        if sentence and len(line) + len(sentence) + 4 <= _WIDTH:
            yield f"{line}  # {sentence}"
        else:
            yield from _comment(sentence, indent)
            yield line


def _sequence(value: Iterable[Any], indent: str) -> Iterator[str]:
    for one in value:
        inner, sentence = (one.value, one.sentence) if isinstance(one, Why) else (one, "")
        if isinstance(inner, Mapping) and inner:
            yield from _comment(sentence, indent)
            lines = _mapping(inner, f"{indent}  ")
            held: list[str] = []
            for line in lines:  # a comment above the first key goes above the dash
                if not line.lstrip().startswith("#"):
                    yield from (f"{indent}{comment.strip()}" for comment in held)
                    yield f"{indent}- {line[len(indent) + 2 :]}"
                    break
                held.append(line)
            yield from lines
        elif isinstance(inner, list | tuple) and inner:
            yield from _comment(sentence, indent)
            yield f"{indent}-"
            yield from _sequence(inner, f"{indent}  ")
        else:
            yield from _entry(f"{indent}-", one, indent)


def _comment(sentence: str, indent: str) -> Iterator[str]:
    """The sentence in lines that fit."""
    line = ""
    for word in sentence.split():
        if line and len(indent) + len(line) + len(word) + 3 > _WIDTH:
            yield f"{indent}# {line}"
            line = ""
        line = f"{line} {word}" if line else word
    if line:
        yield f"{indent}# {line}"


def _is_block(value: Any) -> bool:
    """Text of several lines, which a literal block gives back as it is."""
    if not isinstance(value, str) or "\n" not in value.rstrip("\n"):
        return False
    lines = value.removesuffix("\n").split("\n")
    first = next((line for line in lines if line), "")
    return not first.startswith(" ") and bool(lines[-1]) and all(not line or _BLOCK.fullmatch(line) for line in lines)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return scalar(value)


def scalar(value: Any) -> str:
    """One value; text is quoted wherever a reader of YAML 1.1 or 1.2 could take it for something else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return str(value)
    return "".join(mark if mark.isprintable() else _escaped(mark) for mark in json.dumps(value, ensure_ascii=False))


def _escaped(mark: str) -> str:
    code = ord(mark)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
