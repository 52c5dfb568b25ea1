"""The work, the same for everybody who is measured: what each user says, by seed, user and number alone.

Conversations begin alike (a system prompt that all share) and grow by each message and its answer. Strangers ask once
and share nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

Messages = list[dict[str, str]]
CONVERSATIONS, STRANGERS = "conversations", "strangers"
_WORDS = tuple(
    "the quick brown fox jumps over a lazy dog while seven small boats sail slowly round the old green island".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Work:
    """Lengths in words, from and to; `turns` of a conversation; 0 for strangers, who have no system prompt either."""

    users: int
    turns: int
    system_words: int
    message_words: tuple[int, int]
    answer_tokens: tuple[int, int]

    def shorter(self, percent: float, users: int | None) -> Work:
        """With texts of this part of their lengths, and another number of users if one is given."""
        low, high = self.message_words
        return replace(
            self,
            users=users or self.users,
            system_words=round(self.system_words * percent / 100),
            message_words=(max(1, round(low * percent / 100)), max(1, round(high * percent / 100))),
        )


class Talk:
    """What one user says. It never asks for a time or for anything that depends on one."""

    def __init__(self, work: Work, seed: int, user: int) -> None:
        self._work = work
        self._seed = seed
        self._user = user
        self._number = 0
        self._turn = 0
        self._system = words(random.Random(f"{seed}"), work.system_words)
        self._chance = self._begin()
        self.messages: Messages = []
        self.answer_tokens = 0

    @property
    def name(self) -> str:
        """Of the conversation: with a policy that looks at sessions this is its session."""
        return f"{self._seed}-{self._user}-{self._number}"

    def ask(self) -> None:
        """The next message, in the same conversation or in a new one: `messages` and `answer_tokens` are set."""
        if not self.messages and self._work.turns:  # the users are not all at the same turn when the measurement begins
            self._open()
            for _ in range(self._chance.randrange(self._work.turns)):
                self._say()
                self.heard(words(self._chance, 4))
        elif self._turn == self._work.turns or not self._work.turns:
            self._number += 1
            self._chance = self._begin()
            self._open()
        self._say()

    def heard(self, answer: str) -> None:
        self.messages.append({"role": "assistant", "content": answer})

    def _begin(self) -> random.Random:
        return random.Random(f"{self._seed}/{self._user}/{self._number}")

    def _open(self) -> None:
        self._turn = 0
        self.messages = [{"role": "system", "content": self._system}] if self._work.turns else []

    def _say(self) -> None:
        self._turn += 1
        text = words(self._chance, self._chance.randint(*self._work.message_words))
        content = f"{self.name}.{self._turn} {text}"
        self.messages.append({"role": "user", "content": content})
        self.answer_tokens = self._chance.randint(*self._work.answer_tokens)


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_WORDS, k=count))
