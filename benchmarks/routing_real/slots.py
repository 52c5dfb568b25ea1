"""Whether a conversation comes back to the slot of a llama.cpp replica that holds its prefix, without being told which.

One replica with four slots. A conversation has its first turn, others have theirs, three at once, then it goes on: how
much of its second prompt came from the cache? By what all of them begin with, by how many others there were, and by the
two settings of llama.cpp that decide it.
"""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.rig.errors import FailedError
from benchmarks.rig.subject import ask
from benchmarks.routing_real import fleets
from benchmarks.routing_real.work import Messages, words

SLOTS = 4
AT_ONCE = 3
SETTINGS: dict[str, tuple[str, ...]] = {
    "as the gateway starts it": (),
    "`--cache-ram 0`": ("--cache-ram", "0"),
    "`--slot-prompt-similarity 0.6`": ("--slot-prompt-similarity", "0.6"),
    "`--slot-prompt-similarity 0.6 --cache-ram 0`": ("--slot-prompt-similarity", "0.6", "--cache-ram", "0"),
}
COMMON_WORDS = (5, 100)
OTHERS = (3, 12)
_SEED = 5


def measure(model: Path, folder: Path) -> list[dict[str, Any]]:
    """Prints a table; each row of it is returned too. Raises FailedError."""
    rows: list[dict[str, Any]] = []
    print(f"\none llama.cpp replica, {SLOTS} slots: how much of the second turn's prompt came from the cache\n")
    print(
        "| llama.cpp | all begin with | others | first turn | second | of it cached |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, flags in SETTINGS.items():
        for common in COMMON_WORDS:
            for others in OTHERS:
                first, second, shared, cached = _once(model, folder, flags, common, others)
                rows.append({"llamacpp": name, "shared": shared, "others": others, "first": first, "second": second})
                rows[-1]["cached"] = cached
                print(f"| {name} | {shared} tokens | {others} | {first} | {second} | {cached} |", flush=True)
    return rows


def _once(model: Path, folder: Path, flags: tuple[str, ...], common: int, others: int) -> tuple[int, int, int, int]:
    """Tokens of the first turn's prompt, the second's, what all begin with, and of the second what was cached."""
    chance = random.Random(_SEED)
    fleet = fleets.llamacpp(model, 1, SLOTS, 4096, flags)
    with ExitStack() as stack:
        (url,) = fleet.start(stack, folder)
        address = url.removeprefix("http://")
        system = {"role": "system", "content": words(chance, common)}
        talk = [system, {"role": "user", "content": words(chance, 100)}]
        shared, _, _ = _say(address, [system, {"role": "user", "content": ""}])
        first, _, answer = _say(address, talk)
        strangers = [[system, {"role": "user", "content": words(chance, 100)}] for _ in range(others)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: _say(address, one), strangers))
        talk += [{"role": "assistant", "content": answer}, {"role": "user", "content": words(chance, 40)}]
        second, cached, _ = _say(address, talk)
    return first, second, shared, cached


def _say(address: str, messages: Messages) -> tuple[int, int, str]:
    """Tokens of the prompt, those of them that were cached, and the answer."""
    body = json.dumps({"messages": messages, "max_tokens": 16, "ignore_eos": True}).encode()
    status, text = ask(address, "POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    if status != 200:
        raise FailedError(f"llama.cpp said {status}: {text[:300]!r}")
    told = json.loads(text)
    usage = told["usage"]
    answer: str = told["choices"][0]["message"]["content"] or ""
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], answer
