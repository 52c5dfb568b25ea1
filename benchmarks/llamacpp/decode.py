"""Section `decode`: how much of what memory can be read with goes into the tokens of one stream.

A token of one stream reads every matrix once, so tokens per second times their bytes is what was read. What can be read
is measured beside it by `bandwidth.c`: all threads walk through memory of their own that no cache holds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.llamacpp import subjects
from benchmarks.llamacpp.sections import BUILT
from benchmarks.llamacpp.settings import GEMMA_3_1B, Settings
from benchmarks.llamacpp.subjects import PACKAGE
from benchmarks.llamacpp.taken import LETTERS, verdict
from benchmarks.memory.shapes import Recipe, write
from benchmarks.rig.answers import Work
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.processes import clean_env
from benchmarks.rig.tables import Row, Table
from inhouse.weights.look import read_file

GOAL = 0.85
_LARGER: tuple[Recipe, ...] = ("q8_0", "f16")
TOKENS = 48


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    """Raises SkippedError without a C compiler."""
    program = _compiled(settings.tools.folder)
    table = Table("decode", "one stream, alone; bytes of all matrices × tokens/s", ["read", "can be read"])
    table.ratios = [("read", "can be read")]
    files = {"the file": settings.given} if settings.given is not None else _files(settings)
    for name, native in ((PACKAGE, None), (BUILT, settings.native)):
        if name == BUILT and native is None:
            table.notes.append("no engine is built here: `inhouse engine build`")
            continue
        for kind, file in files.items():
            say(f"decode: {kind}, {name}")
            table.rows.append(_row(settings, program, f"{kind}, {name}", name, file, native))
    for file in files.values():
        if file not in (settings.given, settings.weights()):
            file.unlink()
    return table


def _files(settings: Settings) -> dict[str, Path]:
    """The less is packed, the less arithmetic there is for each byte."""
    found = {"Q4_0": settings.weights()}
    for recipe in _LARGER:
        found[recipe.upper()] = settings.tools.folder / f"random-{recipe}.gguf"
        write(replace(GEMMA_3_1B, recipe=recipe), found[recipe.upper()])
    return found


def _row(settings: Settings, program: Path, title: str, name: str, file: Path, native: Path | None) -> Row:
    model_bytes = sum(tensor.bytes for tensor in read_file(file).tensors)
    can, rates = [_bandwidth(program, settings.threads)], []
    with subjects.engine(settings, name, file, 1, native) as running:
        for number in range(settings.rounds):
            gaps_s = running.run(Work(1, 1, TOKENS, LETTERS, past_the_end=True), number).gaps_s
            rates.append(len(gaps_s) / sum(gaps_s))
            can.append(_bandwidth(program, settings.threads))
    read = [rate * model_bytes / 1e9 for rate in rates]
    values = {"read": median(read), "can be read": median(can)}
    ratio = values["read"] / values["can be read"]
    told = f"{median(rates):.1f} tokens/s" + (f", {verdict(ratio, GOAL)}" if name == BUILT else "")
    return Row(title, "GB/s", values, rounds={"read": read, "can be read": can}, verdict=told)


def _compiled(folder: Path) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SkippedError("no C compiler here (Debian: apt-get install gcc libc6-dev)")
    program = folder / "bandwidth"
    source = Path(__file__).with_name("bandwidth.c")
    command = [compiler, "-O3", "-march=native", "-Wall", "-Wextra", "-pthread", "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise FailedError(f"{source.name} does not compile: {done.stderr.strip()[-800:]}")
    return program


def _bandwidth(program: Path, threads: int) -> float:
    """GB/s, the best of several walks."""
    done = subprocess.run(
        [str(program), str(threads)], capture_output=True, text=True, timeout=60, check=False, env=clean_env()
    )
    if done.returncode:
        raise FailedError(f"bandwidth: {done.stderr.strip()[-400:]}")
    return float(json.loads(done.stdout)["gb_per_s"])
