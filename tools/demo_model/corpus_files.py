"""Loads `corpus/` and expands its shorthand into questions. Needs only PyYAML, so tests can use it without torch.

The shorthand of an `ask` line: `[a|b|]` stands for a, b or nothing. `{}` in a frame stands for its subject.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CORPUS = Path(__file__).parent / "corpus"
TOPIC_FILES = ("small_talk.yaml", "product.yaml", "concepts.yaml", "errors.yaml")


@dataclass(frozen=True, slots=True)
class Topic:
    """One answer with all the ways to ask for it. `terms` are put into the frames for definitions."""

    id: str
    answer: str
    asks: tuple[str, ...]
    terms: tuple[str, ...]
    more: str | None


@dataclass(frozen=True, slots=True)
class Kind:
    """Subjects that are not known, with the frames that fit them."""

    name: str
    define: bool
    answer: str
    subjects: tuple[str, ...]
    frames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusals:
    unknown: str
    unable: str
    kinds: tuple[Kind, ...]
    near: tuple[str, ...]
    unknown_questions: tuple[str, ...]
    unable_questions: tuple[str, ...]
    foreign_questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything that the model is taught; `extras`, `tools` and `json` are as in their files."""

    topics: tuple[Topic, ...]
    define: tuple[str, ...]
    refusals: Refusals
    extras: dict[str, Any]
    tools: list[dict[str, Any]]
    json: dict[str, Any]


def load(folder: Path = CORPUS) -> Corpus:
    """Reads and expands all files; the same order every time."""
    return Corpus(
        topics=tuple(_topic(entry) for name in TOPIC_FILES for entry in _read(folder / name)),
        define=tuple(_read(folder / "frames.yaml")["define"]),
        refusals=_refusals(_read(folder / "refusals.yaml")),
        extras=_read(folder / "extras.yaml"),
        tools=_read(folder / "tools.yaml"),
        json=_read(folder / "json.yaml"),
    )


def questions(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Every question that asks for one fixed answer, before noise, with that answer."""
    for topic in corpus.topics:
        for ask in topic.asks:
            yield ask, topic.answer
        for frame, term in itertools.product(corpus.define, topic.terms):
            yield frame.replace("{}", term), topic.answer
        for frame, term in itertools.product(corpus.refusals.near, topic.terms):
            yield frame.replace("{}", term), corpus.refusals.unknown
    for kind in corpus.refusals.kinds:
        for frame, subject in itertools.product(frames_of(corpus, kind), kind.subjects):
            yield frame.replace("{}", subject), kind.answer
    refusals = corpus.refusals
    for ask in (*refusals.unknown_questions, *refusals.foreign_questions):
        yield ask, refusals.unknown
    for ask in refusals.unable_questions:
        yield ask, refusals.unable
    for line in lines(corpus.extras["story"]["ask"]):
        for ask in expand(line):
            yield ask, corpus.extras["story"]["answer"]


def frames_of(corpus: Corpus, kind: Kind) -> tuple[str, ...]:
    return kind.frames + (corpus.define if kind.define else ())


@cache
def expand(line: str) -> tuple[str, ...]:
    """All readings of one line, without repeated spaces.

    >>> expand("how [do|can] I start [it|]")
    ('how do I start it', 'how do I start', 'how can I start it', 'how can I start')
    """
    parts = [part[1:-1].split("|") if part.startswith("[") else [part] for part in re.split(r"(\[[^\]]*\])", line)]
    return tuple(dict.fromkeys(" ".join("".join(choice).split()) for choice in itertools.product(*parts)))


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def plain(question: str) -> str:
    """What two questions have in common when only case, punctuation or spaces differ."""
    return " ".join(re.sub(r"[^\w/+*.-]+", " ", question.lower()).split()).strip(" .")


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _bar_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


def _expand_lines(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(question for line in lines(text) for question in expand(line)))


def _topic(entry: dict[str, Any]) -> Topic:
    return Topic(
        id=entry["id"],
        answer=entry["answer"],
        asks=_expand_lines(entry.get("ask", "")),
        terms=_bar_list(entry["terms"]) if "terms" in entry else (),
        more=entry.get("more"),
    )


def _refusals(entry: dict[str, Any]) -> Refusals:
    answers: dict[str, str] = entry["answers"]
    return Refusals(
        unknown=answers["unknown"],
        unable=answers["unable"],
        kinds=tuple(
            Kind(
                name=kind["name"],
                define=kind.get("define", False),
                answer=answers[kind.get("answer", "unknown")],
                subjects=_bar_list(kind["subjects"]),
                frames=tuple(kind["frames"]),
            )
            for kind in entry["kinds"]
        ),
        near=tuple(entry["near"]),
        unknown_questions=_expand_lines(entry["questions"]["unknown"]),
        unable_questions=_expand_lines(entry["questions"]["unable"]),
        foreign_questions=tuple(lines(entry["languages"])),
    )
