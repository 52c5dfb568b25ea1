"""The model's thread: it loads the model, takes waiting rows into the batch, and hands out what comes of each.

Theory of operation. The event loop puts rows into `_waiting` under a lock and may mark one as gone; everything else
belongs to the thread. The thread asks the decider (`batching.choose`) who begins, computes one token for every row and
a piece of the prompts of those who begin, and hands what came of it to the event loop in one call. A row that is gone,
ended or failed leaves the batch before the next token. A pass that fails ends its rows with an error; three in a row
end the process, because a device that fails for good does not come back, and whoever watches this process starts it
again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inhouse.errors import ApiError, EngineError, EngineStartError, QueueFull
from inhouse.hf_engine.batching import Waiting, choose
from inhouse.hf_engine.figures import Figures
from inhouse.hf_engine.rows import Finish, Piece, Row, Told
from inhouse.hf_engine.settings import Settings
from inhouse.hf_engine.text import Text

if TYPE_CHECKING:
    from inhouse.hf_engine.batch import Batch
    from inhouse.hf_engine.loading import Loaded
    from inhouse.hf_engine.picking import Picked

LOAD_FAILED, MODEL_FAILED = 3, 4
_FAILURES_MAX = 3
_RETRY_S = 1.0
News = list[tuple[Row, Piece | ApiError]]


class Worker:
    """Owns the model. `loaded` is None until it is ready."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.loaded: Loaded | None = None
        self._settings = settings
        self._rules = settings.rules
        self._loop = loop
        self._bell = threading.Condition()
        self._waiting: list[Row] = []
        self._running: list[tuple[Row, Text]] = []
        self._beginning: list[tuple[Row, Text]] = []
        self._embedding = 0
        self.figures = Figures(lambda: self.running, lambda: len(self._waiting))
        self._failures = 0
        self._thread = threading.Thread(target=self._live, daemon=True, name="model")

    @property
    def running(self) -> int:
        """Rows that are computed."""
        return len(self._running) + len(self._beginning) + self._embedding

    @property
    def busy(self) -> int:
        """Rows that are computed or wait."""
        return self.running + len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def submit(self, rows: Sequence[Row]) -> None:
        """Takes all rows of a request, or none. Raises QueueFull."""
        with self._bell:
            room = self._settings.queue_max + self._rules.rows_max - self.busy
            if len(rows) > room:
                self.figures.refused.inc()
                raise QueueFull(
                    f"the queue of '{self._settings.name}' is full ({len(self._waiting)} waiting, at most "
                    f"{self._settings.queue_max}); retry in {_RETRY_S:g} s",
                    retry_after_s=_RETRY_S,
                )
            self._waiting += rows
            self._bell.notify()

    def leave(self, rows: Sequence[Row]) -> None:
        """Their client is gone: they free their places at the next token, and at once where they still wait."""
        with self._bell:
            for row in rows:
                row.gone = True
            before = len(self._waiting)
            self._waiting = [row for row in self._waiting if not row.gone]
            self.figures.left.inc(before - len(self._waiting))

    # the rest runs in the thread
    def _live(self) -> None:
        try:
            from inhouse.hf_engine.loading import load

            loaded = load(self._settings)
            if loaded.embeds:
                self.loaded = loaded
                self._embed_for_ever(loaded)
            else:
                from inhouse.hf_engine.batch import Batch

                batch = Batch(loaded, self._rules.prefill_tokens_max)
                self._rules = replace(self._rules, joins=batch.joins)
                self.loaded = loaded
                self._generate_for_ever(loaded, batch)
        except EngineStartError as error:
            _end(f"error: {error.message}", LOAD_FAILED)
        except Exception as error:  # noqa: BLE001 - without its thread the process would look alive and do nothing
            _end(f"error: the model's thread ended with {type(error).__name__}", MODEL_FAILED)

    def _generate_for_ever(self, loaded: Loaded, batch: Batch) -> None:
        while True:
            chosen = [] if batch.begins else self._next(wait=not self._running)
            news: News = []
            try:
                self._drop_gone(batch)
                if chosen:
                    batch.begin([row.wanted for row in chosen])
                    self._beginning = [(row, _text(loaded, row)) for row in chosen]
                    self._count_prompts(chosen)
                if self._running:
                    self.figures.passes.inc()
                    self._advance(batch, batch.step(), self._running, news)
                if batch.begins:
                    self._go_on(batch, news)
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - of the model; its rows are told, and the batch starts afresh
                everybody = (*(row for row, _ in (*self._running, *self._beginning)), *chosen)
                news += self._failed(list({row.number: row for row in everybody}.values()), error)
                batch.give_up()
                batch.keep(())
                self._running, self._beginning = [], []
            self._drop_ended(batch, news)
            self._hand_out(news)

    def _go_on(self, batch: Batch, news: News) -> None:
        """A piece of the prompts of those who begin."""
        if all(row.gone for row, _ in self._beginning):
            self.figures.left.inc(len(self._beginning))
            batch.give_up()
            self._beginning = []
            return
        self.figures.passes.inc()
        picked = batch.go_on()
        if picked is not None:
            began, self._beginning = self._beginning, []
            self._running += began
            self._advance(batch, picked, began, news)

    def _embed_for_ever(self, loaded: Loaded) -> None:
        from inhouse.hf_engine.embedding import embed

        while True:
            chosen = self._next(wait=True)
            self._embedding = len(chosen)
            news: News = []
            try:
                vectors = embed(loaded, [row.wanted for row in chosen])
                self._count_prompts(chosen)
                news += [(row, Piece(vector=vector)) for row, vector in zip(chosen, vectors, strict=True)]
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - as above
                news += self._failed(chosen, error)
            self._embedding = 0
            self._hand_out(news)

    def _next(self, *, wait: bool) -> list[Row]:
        """Who begins now; with `wait`, not before somebody does."""
        with self._bell:
            while True:
                now_s = time.monotonic()
                line = [Waiting(row.number, row.arrived_s, len(row.wanted.prompt)) for row in self._waiting]
                choice = choose(line, len(self._running), self._rules, now_s)
                if choice.numbers or not wait:
                    chosen = set(choice.numbers)
                    found = [row for row in self._waiting if row.number in chosen]
                    self._waiting = [row for row in self._waiting if row.number not in chosen]
                    return found
                self._bell.wait(max(0.0, choice.due_s - now_s) if choice.due_s < float("inf") else None)

    def _advance(self, batch: Batch, picked: Sequence[Picked], rows: Sequence[tuple[Row, Text]], news: News) -> None:
        """What one token more means for each of `rows`, which are the last ones of the batch."""
        now_s = time.monotonic()
        figures = self.figures
        figures.answer_tokens.inc(len(rows))
        first = len(self._running) - len(rows)
        for index, (row, text) in enumerate(rows):
            if row.first_s:
                figures.token_s.observe(now_s - row.last_s)
            else:
                row.first_s = now_s
                figures.first_s.observe(now_s - row.arrived_s)
            row.last_s = now_s
            news.append((row, self._piece(row, text, picked[index], len(batch.said[first + index].answer))))

    def _piece(self, row: Row, text: Text, picked: Picked, tokens: int) -> Piece:
        loaded = self.loaded
        assert loaded is not None  # noqa: S101 - there is no piece without a model
        wanted = row.wanted
        if picked.token in loaded.ends and not wanted.ignore_eos:
            return Piece(text.rest(), tokens, finish="stop")
        shown = text.take(picked.token)
        finish: Finish | None = "stop" if text.stopped else "length" if tokens >= wanted.answer_tokens_max else None
        if finish:
            shown += text.rest()
        told = () if wanted.sampling.logprobs is None else (_told(loaded, picked),)
        return Piece(shown, tokens, told, finish="stop" if text.stopped else finish)

    def _drop_gone(self, batch: Batch) -> None:
        kept = [index for index, (row, _) in enumerate(self._running) if not row.gone]
        self.figures.left.inc(len(self._running) - len(kept))
        self._keep(batch, kept)

    def _drop_ended(self, batch: Batch, news: News) -> None:
        ended = {row.number for row, piece in news if not isinstance(piece, Piece) or piece.finish}
        self._keep(batch, [index for index, (row, _) in enumerate(self._running) if row.number not in ended])

    def _keep(self, batch: Batch, kept: list[int]) -> None:
        batch.keep(kept)
        self._running = [self._running[index] for index in kept]

    def _failed(self, rows: Sequence[Row], error: Exception) -> News:
        """What their clients are told, and the operator: the kind of the fault, never its text."""
        kind = type(error).__name__
        self.figures.failed.inc(len(rows))
        self._failures += 1
        if self._failures >= _FAILURES_MAX:
            _end(f"error: the model failed {_FAILURES_MAX} times in a row, at last with {kind}", MODEL_FAILED)
        print(f"error: the model failed with {kind}", file=sys.stderr, flush=True)
        return [(row, EngineError(f"the model failed ({kind})")) for row in rows]

    def _count_prompts(self, rows: Sequence[Row]) -> None:
        lengths = [len(row.wanted.prompt) for row in rows]
        self.figures.prompt_tokens.inc(sum(lengths))
        self.figures.filling_tokens.inc(max(lengths) * len(lengths) - sum(lengths))

    def _hand_out(self, news: News) -> None:
        if news:
            self._loop.call_soon_threadsafe(_deliver, news)


def _deliver(news: News) -> None:
    for row, piece in news:
        if not row.gone:
            row.deliver(piece)


def _text(loaded: Loaded, row: Row) -> Text:
    decode: Callable[[list[int]], str] = _decoder(loaded)
    return Text(decode, row.wanted.prompt, row.wanted.stops)


def _decoder(loaded: Loaded) -> Callable[[list[int]], str]:
    tokenizer = loaded.tokenizer

    def decode(tokens: list[int]) -> str:
        found: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return found

    return decode


def _told(loaded: Loaded, picked: Picked) -> Told:
    """Special tokens are told by name: an alternative that would have ended the answer is worth seeing."""

    def name(token: int) -> str:
        found: str = loaded.tokenizer.decode([token], skip_special_tokens=False)
        return found

    return Told(name(picked.token), picked.logprob, tuple((name(token), value) for token, value in picked.top))


def _end(line: str, status: int) -> None:
    print(line, file=sys.stderr, flush=True)
    os._exit(status)
