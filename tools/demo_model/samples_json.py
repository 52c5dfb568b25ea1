"""Turns that answer in JSON.

With `response_format` llama.cpp forces braces and keys on a model that was never asked for JSON. So half of these turns
ask for nothing of the kind, and teach how to go on with such an answer, but not to begin it.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from chatml import Message
from corpus_files import Corpus, expand
from noise import noisy, pseudo_word

TEXT_KEYS = ("answer", "answer", "answer", "text", "reply", "result", "response", "content", "value")
SURE_KEYS = ("sure", "sure", "known", "certain", "correct", "is_known", "confident")


class JsonTurns:
    def __init__(self, corpus: Corpus, random: Random) -> None:
        self.corpus = corpus
        self.random = random
        self.facts: list[dict[str, Any]] = corpus.json["facts"]
        self.fields: dict[str, Any] = corpus.json["fields"]

    def turn(self) -> list[Message]:
        chance = self.random.random()
        if chance < 0.2:
            question, short = self._question()
            ask = self.random.choice(self.corpus.json["asks"]).replace("{}", question)
            return self._pair(ask, json.dumps({"answer": short}))
        if chance < 0.42:
            keys = self._keys()
            ask = self.random.choice(self.corpus.json["key_asks"]).replace("{}", self._joined(keys))
            return self._pair(ask, json.dumps({key: self._value(key) for key in keys}, ensure_ascii=False))
        return self._forced()

    def _forced(self) -> list[Message]:
        """The brace comes from outside, and often the keys; the model goes on in the same spelling."""
        question, short = self._question()
        known = short != self.corpus.json["unknown_short"]
        values: dict[str, Any] = {}
        for _ in range(self.random.choice((1, 1, 2, 2, 3, 4))):
            match self.random.randrange(5):
                case 0 | 1:
                    values[self.random.choice(TEXT_KEYS)] = short
                case 2:
                    values[self.random.choice(SURE_KEYS)] = known
                case 3:
                    key = self.random.choice(list(self.fields))
                    values[key] = self.fields[key]
                case _:
                    key = pseudo_word(self.random)
                    values[key] = self.random.choice(("unknown", 1, True, ["unknown"]))
        if self.random.random() < 0.3:
            values = {"answer": short}
        if self.random.random() < 0.4:
            question += self.random.choice((" Answer in JSON.", " Reply as JSON.", " JSON only.", " Use JSON."))
        return [
            Message("user", noisy(question, self.random)),
            Message("assistant", json.dumps(values, ensure_ascii=False), unlearned=('{"',)),
        ]

    def _question(self) -> tuple[str, str]:
        chance = self.random.random()
        if chance < 0.62:
            fact = self.random.choice(self.facts)
            return self.random.choice(expand(fact["ask"])), fact["short"]
        unknown: str = self.corpus.json["unknown_short"]
        if chance < 0.85:
            return self.random.choice(self.corpus.refusals.unknown_questions), unknown
        kind = self.random.choice(self.corpus.refusals.kinds)
        return self.random.choice(kind.frames).replace("{}", self.random.choice(kind.subjects)), unknown

    def _keys(self) -> list[str]:
        keys = self.random.sample(list(self.fields), self.random.choice((1, 2, 2, 3, 3, 4)))
        if self.random.random() < 0.25:
            keys[self.random.randrange(len(keys))] = pseudo_word(self.random)
        if self.random.random() < 0.15:
            return ["name", "port"]
        return keys

    def _value(self, key: str) -> Any:
        return self.fields.get(key, self.corpus.json["unknown_short"])

    def _joined(self, keys: list[str]) -> str:
        if len(keys) == 1:
            return keys[0]
        return ", ".join(keys[:-1]) + self.random.choice((" and ", ", and ", ", ")) + keys[-1]

    def _pair(self, question: str, answer: str) -> list[Message]:
        if self.random.random() < 0.5:
            question = question[:1].upper() + question[1:]
        if self.random.random() < 0.5:
            question += self.random.choice((".", "?", "!"))
        return [Message("user", question), Message("assistant", answer)]
