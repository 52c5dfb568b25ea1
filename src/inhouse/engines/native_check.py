"""Whether a new build is right: it says the version, and answers word for word as the engine in the package does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from inhouse.core import ReplicaReport
from inhouse.engines.about import BYTES_MAX
from inhouse.engines.devices import seen
from inhouse.engines.engine import Spec
from inhouse.engines.llamacpp import LLAMACPP
from inhouse.engines.member import Member
from inhouse.engines.native import Recipe
from inhouse.engines.replica import Replica
from inhouse.errors import EngineBuildError, EngineError

TRY_S = 60.0
EMULATED_TRY_S = 600.0
_ASK = json.dumps(
    {
        "model": "check",
        "messages": [{"role": "user", "content": "What is a replica?"}],
        "max_tokens": 8,
        "temperature": 0,
    }
).encode()
_WRONG = json.dumps(
    {"model": "check", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "grammar": "root ::= ((("}
).encode()
"""What llama-server refuses by throwing: where exceptions are lost on their way, it ends."""


def check(
    program: Path, recipe: Recipe, demo: Path, threads: int, *, try_s: float = TRY_S, on_gpus: bool = False
) -> str:
    """What it answered. Raises EngineBuildError where that, or its version, is not as it should be.

    `try_s`: each of its starts and answers may take so long. `on_gpus`: it is for those that are here; one with CUDA
    for others must not try these.
    """
    try:
        asked = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, errors="replace", timeout=try_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineBuildError(f"the new {program.name} cannot be run: {error}") from None
    said = asked.stdout + asked.stderr
    if asked.returncode != 0 or str(recipe.number) not in said:
        raise EngineBuildError(
            f"the new {program.name} does not say that it is build {recipe.number} (exit status {asked.returncode}): "
            f"{said.strip()[:300]}"
        )
    spec = Spec("check", demo, context_tokens=512, slots=1, threads=threads)
    theirs = asyncio.run(_answer(spec, try_s))
    apart = ("--device", "none") if recipe.cuda and not on_gpus else ()
    ours = asyncio.run(_answer(replace(spec, native=program, extra_args=apart), try_s))
    if ours != theirs or not ours:
        raise EngineBuildError(
            f"the new {program.name} answers {ours!r} where the engine in the package says {theirs!r}",
            hint="it is not taken into use; the engine in the package goes on",
        )
    return ours


def check_sees(program: Path) -> None:
    """Raises EngineBuildError where it sees no GPU."""
    if not seen(program):
        raise EngineBuildError(
            f"the new {program.name} sees no GPU: `{program.name} --list-devices` shows none",
            hint="is the driver's library, libcuda.so.1, where programs find it? In a container: NVIDIA's toolkit",
        )


async def _answer(spec: Spec, try_s: float) -> str:
    """The first words that the demo model says."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def report(said: ReplicaReport) -> None:
        if said.state in ("ready", "failed", "restarting") and not ready.done():
            ready.set_result("" if said.state == "ready" else said.reason or "it ended")

    with tempfile.TemporaryDirectory(prefix="inhouse-") as folder:
        member = Member("check", LLAMACPP, 1)
        replica = Replica(spec, Path(folder), member, start_s_max=try_s, silence_s_max=try_s, report=report)
        running = asyncio.create_task(replica.run())
        try:
            reason = await ready
            pool = member.pool
            if reason or pool is None:
                raise EngineBuildError(f"{_which(spec)} did not start: {reason}")
            reply = await pool.request(b"POST", b"/v1/chat/completions", _ASK, patient=True)
            body = await reply.read(BYTES_MAX)
            refused = await pool.request(b"POST", b"/v1/chat/completions", _WRONG, patient=True)
            await refused.read(BYTES_MAX)
            if refused.status != 400:
                raise EngineBuildError(f"{_which(spec)} answers {refused.status} to what is wrong, where 400 is right")
            return str(json.loads(body)["choices"][0]["message"]["content"])
        except (EngineError, ValueError, LookupError) as error:
            raise EngineBuildError(f"{_which(spec)} did not answer: {error}") from None
        finally:
            running.cancel()
            await asyncio.wait([running])


def _which(spec: Spec) -> str:
    return "the engine in the package" if spec.native is None else "the new llama-server"
