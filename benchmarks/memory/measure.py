"""Starts the engine as the gateway does, uses it for everything, and reads what it holds."""

from __future__ import annotations

import http.client
import json
import random
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory.cases import Case
from benchmarks.memory.shapes import write
from inhouse.engines.devices import on_devices, seen
from inhouse.engines.engine import Spec
from inhouse.engines.gpus import SMI, of_nvidia_smi
from inhouse.engines.hardware import look, resident_bytes
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv, memory
from inhouse.engines.llamacpp_gpu import Split
from inhouse.weights.look import read_file

_START_S = 120.0
_ANSWER_S = 600.0
_TURNS = 5
_ROOM = 16
"""Tokens of the context that are left for an answer."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of the engine's process."""

    predicted: Split
    loaded: int
    used: int
    on_gpus: int
    """0 where it uses none."""

    @property
    def ratio(self) -> float:
        return self.predicted.host.total / self.used

    @property
    def gpu_ratio(self) -> float:
        return self.predicted.gpus.total / self.on_gpus if self.on_gpus else 1.0


def measure(case: Case, folder: Path, *, binary: Path | None = None, native: Path | None = None) -> Measured:
    """Makes the model in `folder`, serves it and takes it away again. Raises RuntimeError where it does not serve.

    By the engine in the package, by one of one's own, or by one that was built here; with GPUs where that sees some,
    which nobody else may use meanwhile.
    """
    file = folder / "model.gguf"
    write(case.shape, file)
    spec = Spec(
        model="random",
        weights=file,
        context_tokens=case.context,
        slots=case.slots,
        threads=2,
        batch_tokens=512,
        embeddings=case.embeddings,
        prompt_cache_bytes=case.prompts_mib << 20,
        pooling="mean",
        binary=binary,
        native=native,
        extra_args=case.args,
    )
    program = binary or native
    spec = on_devices(spec, seen(program) if program is not None else ())
    before = _on_gpus() if spec.on_gpu else 0
    try:
        with tempfile.TemporaryDirectory(prefix="memory-") as sockets:
            path = f"{sockets}/engine.sock"
            command = list(argv(spec, Address(socket=path)).argv)
            predicted = memory(spec, command, read_file(file), look(with_gpus=False).cpu.features)
            with _running(command, path) as pid:
                loaded = resident_bytes(pid) or 0
                _use(case, path)
                on_gpus = _on_gpus() - before if spec.on_gpu else 0
                return Measured(predicted, loaded, resident_bytes(pid) or 0, on_gpus)
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def _running(command: list[str], path: str) -> Iterator[int]:
    engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends_s = time.monotonic() + _START_S
        while not _answers(path):
            if engine.poll() is not None or time.monotonic() > ends_s:
                raise RuntimeError(f"the engine does not serve: {' '.join(command)}")
            time.sleep(0.05)
        yield engine.pid
    finally:
        engine.kill()
        engine.communicate()


def _use(case: Case, path: str) -> None:
    """A full context in every slot at once, grown in turns like a conversation; as often again as it takes to fill the
    prompt cache; an embedding."""
    dice = random.Random(0)
    tokens = min(case.context, case.used or case.context) - _ROOM

    def prompt(count: int) -> list[int]:
        return [dice.randrange(256, case.shape.vocabulary - 3) for _ in range(count)]

    def ask(slot: int, words: list[int]) -> None:
        for turn in range(1, _TURNS + 1):
            said = words[: len(words) * turn // _TURNS]
            _post(path, "/completion", {"prompt": said, "n_predict": 4, "ignore_eos": True, "id_slot": slot})

    if not case.embeddings:  # of which one is a whole pass
        _post(path, "/completion", {"prompt": prompt(tokens), "n_predict": 1, "id_slot": 0})
    kept = 2 * case.shape.kv_heads * case.shape.head_length * 2 * case.shape.layers * tokens
    rounds = 1 + (-(-(case.prompts_mib << 20) // kept) // case.slots + 1 if case.prompts_mib else 0)
    for _ in range(rounds):
        asked = [threading.Thread(target=ask, args=(slot, prompt(tokens))) for slot in range(case.slots)]
        for thread in asked:
            thread.start()
        for thread in asked:
            thread.join()
    if case.embeddings:
        ubatch = min(512, case.context - _ROOM) if "--ubatch-size" not in case.args else int(case.args[1])
        _post(path, "/v1/embeddings", {"input": prompt(min(ubatch, case.context) - 2)})


def _post(path: str, what: str, body: dict[str, object]) -> None:
    connection = _Unix(path)
    connection.request("POST", what, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{what} answers with {answer.status}: {told[:300]!r}")


def _on_gpus() -> int:
    """Bytes that NVIDIA's GPUs have in use, all together."""
    return sum(gpu.memory_used_bytes or 0 for gpu in of_nvidia_smi(subprocess.check_output(SMI, text=True)))


def _answers(path: str) -> bool:
    connection = _Unix(path)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ANSWER_S)
        self.sock.connect(self._path)
