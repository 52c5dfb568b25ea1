"""Lua scripts in Redis: their text from `store/lua/`, called by their hash, loaded where Redis does not know them.

Redis forgets scripts when it starts anew, so whoever calls one may have to load it again: `run` does. What is called
may happen twice where the answer to the first time got lost; scripts are written so that this does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol


class Commands(Protocol):
    """What is used of a client of redis-py, which types little of it."""

    async def execute_command(self, *words: Any) -> Any: ...

    def pipeline(self, transaction: bool = True) -> Any: ...

    def set_response_callback(self, command: str, callback: Any) -> Any: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str


def script(*files: str) -> Script:
    """The script that these files of `store/lua/` make together."""
    folder = resources.files("inhouse.store").joinpath("lua")
    text = "\n".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in files)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a script. All keys are of one slot."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int | float]

    @property
    def words(self) -> tuple[Any, ...]:
        return (self.script.sha, len(self.keys), *self.keys, *self.args)


async def run(client: Commands, runs: Sequence[Run]) -> list[Any]:
    """The answers, in order; calls are sent together. Raises RedisError: then some of them may have been done."""
    from redis.exceptions import NoScriptError

    answers = await _send(client, runs)
    if any(isinstance(answer, NoScriptError) for answer in answers):
        for text in {one.script.sha: one.script.text for one in runs}.values():
            await client.execute_command("SCRIPT LOAD", text)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        for at, answer in zip(unknown, await _send(client, [runs[at] for at in unknown]), strict=True):
            answers[at] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def _send(client: Commands, runs: Sequence[Run]) -> list[Any]:
    from redis.exceptions import NoScriptError

    if len(runs) == 1:
        try:
            return [await client.execute_command("EVALSHA", *runs[0].words)]
        except NoScriptError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for one in runs:
        pipeline.execute_command("EVALSHA", *one.words)
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    return answers
