"""A conversation: what was said, the next answer as it streams, how fast it came. The prompt is in `terminal.py`."""

from __future__ import annotations

import re
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from inhouse.cli.client import Gateway, Piece
from inhouse.core import Usage
from inhouse.errors import InhouseError

# what a model says must not move the cursor, change the window's title or answer back to the terminal
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def first_model(gateway: Gateway) -> str:
    """The model that the gateway names first."""
    names = [str(entry["id"]) for entry in gateway.models() if entry.get("id")]
    if not names:
        raise InhouseError(f"{gateway.base_url} has no model", hint="`inhouse models` shows what it serves")
    return names[0]


@dataclass(slots=True)
class Answer:
    """One answer while it arrives."""

    text: str = ""
    usage: Usage | None = None
    finish: str = ""
    first_at: float = 0.0
    last_at: float = 0.0

    def take(self, piece: Piece) -> None:
        now = time.perf_counter()
        if piece.kind in ("text", "thought"):
            self.first_at = self.first_at or now
            self.last_at = now
        if piece.kind == "text":
            self.text += piece.text
        elif piece.kind == "finish":
            self.finish = piece.text
        elif piece.kind == "usage":
            self.usage = piece.usage

    def summary(self) -> str:
        """`56 tokens · 41.2 tokens/s`; the rate counts from the first token, so it leaves out the prompt."""
        if self.usage is None:
            return ""
        tokens = self.usage.completion_tokens
        text = f"{tokens} tokens" if tokens != 1 else "1 token"
        if tokens > 1 and self.last_at > self.first_at:
            text += f" · {(tokens - 1) / (self.last_at - self.first_at):.1f} tokens/s"
        return text + (" · cut at the limit of tokens" if self.finish == "length" else "")


@dataclass(slots=True)
class Conversation:
    """Turns so far, and the settings of the next one."""

    gateway: Gateway
    model: str
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    def ask_once(self, question: str) -> None:
        """Prints the answer and nothing else."""
        answer = Answer()
        self._stream(question, answer)
        if not answer.text.endswith("\n"):
            print(flush=True)

    def ask(self, question: str) -> None:
        """Prints the answer and remembers both. Ctrl-C stops it; what came until then is remembered."""
        answer = Answer()
        try:
            self._stream(question, answer)
            note = answer.summary()
        except KeyboardInterrupt:
            note = "stopped"
        finally:
            if answer.text:
                self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer.text}]
            print(flush=True)
        print(f"{_DIM}{note}{_PLAIN}\n" if note else "", flush=True)

    def reset(self) -> None:
        """Forgets what was said; the settings stay."""
        self.turns.clear()

    def _stream(self, question: str, answer: Answer) -> None:
        on_terminal = sys.stdout.isatty()
        said = ""
        with closing(self.gateway.stream(self._body(question))) as pieces:
            for piece in pieces:
                answer.take(piece)
                if piece.kind == "text":
                    text = _CONTROL.sub("", piece.text) if on_terminal else piece.text
                elif piece.kind == "thought" and on_terminal:
                    text = f"{_DIM}{_CONTROL.sub('', piece.text)}{_PLAIN}"
                else:
                    continue
                gap = "\n\n" if piece.kind == "text" and said == "thought" and on_terminal else ""
                said = piece.kind
                sys.stdout.write(gap + text)
                sys.stdout.flush()

    def _body(self, question: str) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*system, *self.turns, {"role": "user", "content": question}],
            "stream_options": {"include_usage": True},
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return body
