"""What tests of keys share: commands against a gateway's state folder, and requests with a key of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving import Gateway

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
HOLDS_S = 2.0
"""A change of a key holds in every process after that."""


def command(folder: Path, *words: str, given: str | None = None) -> str:
    """Runs `inhouse …` on the stack and state of the gateway that was started in `folder`; its standard output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    place = ["--config", str(folder / "inhouse.yaml"), "--state-dir", str(folder / "state")]
    done = subprocess.run(
        [sys.executable, "-m", "inhouse", *words, *place],
        check=False,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def made(folder: Path, *options: str) -> dict[str, Any]:
    """A new key, as `inhouse keys create --json` shows it."""
    found: dict[str, Any] = json.loads(command(folder, "keys", "create", "--json", *options))
    return found


def ask(
    gateway: Gateway, key: str | None, path: str = "/v1/chat/completions", body: Any = CHAT, method: str | None = None
) -> tuple[int, Any]:
    """Status and document. GET where `body` is None and no method is named."""
    headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(gateway.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def seconds_until(holds: Callable[[], bool], most_s: float = 10.0) -> float:
    """How long it took until that was so. Fails after `most_s`."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < most_s, f"not within {most_s} s"
    return time.monotonic() - began_s
