"""A container that runs for a smoke test: by docker or podman, or, where only buildah is, its tree under chroot.

`Chroot` is no container engine: the process has a mount namespace of its own with the image's tree as a read-only root,
the image's user, variables and command, no capability and no way to get one, and the host's network and processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from containers import quiet, said

STATE, CONFIG, TMP = "/var/lib/inhouse", "/etc/inhouse/inhouse.yaml", "/tmp"


class Docker:
    """docker or podman. Boxes reach each other by name, on a network of their own."""

    loopback = False

    def __init__(self, by: str) -> None:
        self.by, self.network = by, f"inhouse-smoke-{os.getpid()}"
        said(by, "network", "create", self.network)

    def close(self) -> None:
        quiet(self.by, "network", "rm", self.network)

    def about(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(said(self.by, "image", "inspect", image))[0]["Config"]
        return found

    @contextlib.contextmanager
    def box(
        self, image: str, args: Sequence[str], *, name: str, port: int, entry: str = "", config: Path | None = None
    ) -> Iterator[DockerBox]:
        command = [
            self.by,
            "run",
            "--detach",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
        ]
        command += ["--tmpfs", TMP, "--tmpfs", "/cache:mode=1777", "--tmpfs", f"{STATE}:uid=65532,gid=65532,mode=700"]
        command += ["--network", self.network, "--network-alias", name, "--publish", f"127.0.0.1::{port}"]
        command += ["--env", "INHOUSE_API_KEY", *(["--entrypoint", entry] if entry else [])]
        command += ["--volume", f"{config}:{CONFIG}:ro"] if config else []
        box = DockerBox(self.by, said(*command, image, *args), port)
        try:
            yield box
        finally:
            quiet(self.by, "rm", "--force", box.id)

    def address(self, name: str, port: int) -> str:
        return f"http://{name}:{port}"


class DockerBox:
    def __init__(self, by: str, id: str, port: int) -> None:
        self.by, self.id = by, id
        asked = subprocess.run([by, "port", id, str(port)], capture_output=True, text=True, check=False)
        self.url = "".join(f"http://{place}" for place in asked.stdout.splitlines()[:1])  # none, where it has ended

    def inside(self, *argv: str) -> tuple[int, str]:
        """A command beside the one that runs: its exit status, and what it says."""
        done = subprocess.run([self.by, "exec", self.id, *argv], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def terminate(self) -> None:
        said(self.by, "kill", "--signal", "TERM", self.id)

    def wait(self) -> int:
        return int(said(self.by, "wait", self.id))

    def log(self) -> str:
        done = subprocess.run([self.by, "logs", self.id], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


# $1 is the tree, $2 user:group, $3 the folder of the box's own files, $4 a configuration or nothing
_ENTER = """
set -eu
tree=$1 user=$2 own=$3 config=$4
shift 4
mount --make-rprivate /
mount --bind "$tree" "$own/root"
mount -o remount,bind,ro "$own/root"
mount --rbind /dev "$own/root/dev"
mount -t proc proc "$own/root/proc"
for place in tmp cache var/lib/inhouse; do
  mount -t tmpfs -o "mode=700,uid=${user%:*},gid=${user#*:},nosuid,nodev" tmpfs "$own/root/$place"
done
mount -t tmpfs -o mode=755 tmpfs "$own/root/etc/inhouse"
[ -z "$config" ] || cp "$config" "$own/root/etc/inhouse/inhouse.yaml"
mount -o remount,ro "$own/root/etc/inhouse"
exec setpriv --no-new-privs chroot --userspec="$user" --groups="${user#*:}" "$own/root" "$@"
"""


class Chroot:
    """Trees of buildah's images, entered by chroot; needs root."""

    loopback = True

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise SystemExit("without docker or podman this needs root: it mounts the image's tree and enters it")
        self._boxes: list[str] = []
        self._chroot = shutil.which("chroot", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "chroot"

    def close(self) -> None:
        for box in self._boxes:
            quiet("buildah", "rm", box)

    def about(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(said("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
        return found

    @contextlib.contextmanager
    def box(
        self, image: str, args: Sequence[str], *, name: str, port: int, entry: str = "", config: Path | None = None
    ) -> Iterator[ChrootBox]:
        made = said("buildah", "from", "--pull-never", image)
        self._boxes.append(made)
        about, tree = self.about(image), said("buildah", "mount", made)
        argv = [entry, *args] if entry else [*(about.get("Entrypoint") or []), *(args or about.get("Cmd") or [])]
        environ = dict(pair.partition("=")[::2] for pair in about.get("Env") or [])
        if "INHOUSE_API_KEY" in os.environ:
            environ["INHOUSE_API_KEY"] = os.environ["INHOUSE_API_KEY"]
        with tempfile.TemporaryDirectory(prefix="inhouse-box-") as folder:
            own = Path(folder)
            (own / "root").mkdir()
            with (own / "log").open("wb") as log:
                process = subprocess.Popen(
                    [
                        "unshare",
                        "--mount",
                        "sh",
                        "-c",
                        _ENTER,
                        "sh",
                        tree,
                        about["User"],
                        folder,
                        str(config or ""),
                        *argv,
                    ],
                    env=environ | {"PATH": f"{environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            try:
                yield ChrootBox(process, own / "log", port, about["User"], environ)
            finally:
                process.kill()
                process.wait()

    def address(self, name: str, port: int) -> str:
        return f"http://127.0.0.1:{port}"


class ChrootBox:
    def __init__(
        self, process: subprocess.Popen[bytes], log: Path, port: int, user: str, environ: Mapping[str, str]
    ) -> None:
        self._process, self._log, self._user, self._environ = process, log, user, environ
        self.url = f"http://127.0.0.1:{port}"

    def inside(self, *argv: str) -> tuple[int, str]:
        """A command in the same mounts, as the same user."""
        pid = self._process.pid
        enter = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", f"--root=/proc/{pid}/root", "--wd=/"]
        uid, _, gid = self._user.partition(":")
        command = [*enter, f"--setuid={uid}", f"--setgid={gid}", *argv]
        environ = dict(self._environ)
        program = shutil.which("nsenter")
        done = subprocess.run(command, executable=program, env=environ, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self._process.wait(timeout=60)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
