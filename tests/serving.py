"""A real gateway as a child process, as a user starts it: `inhouse serve --json`."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY = "test-key-of-the-suite-0123456789abcdef"
START_S = 60.0


@dataclass
class Gateway:
    """A running gateway. `events` are the lines it prints with --json; `log` is all of its standard error."""

    process: subprocess.Popen[str]
    state_dir: Path
    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    _news: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def wait_for(self, **wanted: Any) -> dict[str, Any]:
        """The next event with these fields. Fails when the gateway ends or stays silent for `START_S`."""
        while True:
            try:
                event = self._news.get(timeout=START_S)
            except queue.Empty:
                raise AssertionError(f"no event {wanted}; seen: {self.events}; log: {self.log[-20:]}") from None
            if all(event.get(name) == value for name, value in wanted.items()):
                return event
            if event.get("event") == "ended":
                raise AssertionError(f"the gateway ended before {wanted}; log: {self.log[-20:]}")

    def get(self, path: str) -> Any:
        """A JSON document of the gateway, asked for with the suite's key."""
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def engine_pids(self) -> list[int]:
        """The gateway's direct children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self, number: int = signal.SIGINT) -> int:
        """Signals the gateway and waits for its end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(timeout=20)
        finally:
            self.process.kill()
        for reader in self._readers:
            reader.join(timeout=10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return status

    def listen(self) -> None:
        """Starts to read both outputs."""
        for work in (self._read_events, self._read_log):
            reader = threading.Thread(target=work, daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            self._news.put(event)
        self._news.put({"event": "ended"})

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)


def started(folder: Path, stack: str = "", *, args: tuple[str, ...] = (), key: str | None = KEY) -> Gateway:
    """Starts a gateway on a free port and returns once it listens. The caller stops it."""
    config = folder / "inhouse.yaml"
    config.write_text(stack)
    state_dir = folder / "state"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    if key is not None:
        environ["INHOUSE_API_KEY"] = key
    command = [sys.executable, "-m", "inhouse", "serve", "--json", "--port", "0", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--state-dir", str(state_dir), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    gateway = Gateway(process, state_dir)
    gateway.listen()
    try:
        gateway.url = gateway.wait_for(event="gateway", state="listening")["url"]
    except BaseException:
        gateway.stop(signal.SIGKILL)
        raise
    return gateway


@contextlib.contextmanager
def serving(folder: Path, stack: str = "", *, args: tuple[str, ...] = (), key: str | None = KEY) -> Iterator[Gateway]:
    """A gateway whose models are ready; stopped at the end."""
    gateway = started(folder, stack, args=args, key=key)
    try:
        gateway.wait_for(event="replica", state="ready")
        yield gateway
    finally:
        gateway.stop()
