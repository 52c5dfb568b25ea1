"""Asks a GGUF file through llama.cpp's real server: one question, or one per line from standard input.

python ask.py ../../src/inhouse/weights/demo.gguf "What is a KV cache?"
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def main() -> None:
    arguments = argparse.ArgumentParser(description="Ask the demo model.")
    arguments.add_argument("gguf", type=Path)
    arguments.add_argument("question", nargs="*")
    arguments.add_argument("--temperature", type=float)
    arguments.add_argument("--serve-only", action="store_true", help="be the engine; ends with standard input")
    given = arguments.parse_args()
    if given.serve_only:
        serve(given.gguf)
    with engine(given.gguf) as url:
        for question in given.question or (line.strip() for line in sys.stdin):
            body: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "max_tokens": 600}
            if given.temperature is not None:
                body["temperature"] = given.temperature
            choice = post(url, body)["choices"][0]
            print(f"> {question}\n{choice['message']['content']} [{choice['finish_reason']}]")


@contextmanager
def engine(path: Path) -> Iterator[str]:
    """llama.cpp's server as a child process; gives its URL."""
    command = [sys.executable, __file__, "--serve-only", str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"{path} could not be loaded")
        yield str(json.loads(line)["address"])
        child.stdin.close()
        child.wait(10)


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """One call of /v1/chat/completions."""
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def serve(path: Path) -> None:
    """Leaves with `os._exit`: closing the server in an orderly way may block on open streams."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel, parameters.port, parameters.ui = 8192, 4, 0, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 2
    parameters.cache_ram_mib = 0
    server = xllamacpp.Server(parameters)
    print(json.dumps({"address": server.listening_address}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
