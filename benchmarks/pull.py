"""How fast `inhouse pull` is, beside curl followed by sha256sum: `python -m benchmarks.pull [MIB]`.

One file on loopback, from a server that only hands it to the kernel (sendfile), so that what is measured is the one who
fetches. Both end with a file on the same disk whose hash was looked at; curl by one connection, pull by eight.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RUNS = 3


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        size = Path(FILE).stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        start, end = (int(match[1]), min(int(match[2]) + 1, size)) if match else (0, size)
        self.send_response(206 if match else 200)
        self.send_header("ETag", '"1"')
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.flush()
        with Path(FILE).open("rb") as stream:
            while start < end:
                start += os.sendfile(self.connection.fileno(), stream.fileno(), start, end - start)


FILE = ""


def serve(file: str) -> None:
    """In a process of its own: prints its port."""
    global FILE
    FILE = file
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


def timed(*commands: list[str], env: dict[str, str] | None = None) -> tuple[float, float]:
    """Seconds by the clock, and of processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu


def main(mib: int) -> None:
    with tempfile.TemporaryDirectory(prefix="pull-bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        file = folder / "model.gguf"
        block = os.urandom(2**20)
        with file.open("wb") as out:
            out.write(b"GGUF\x03\0\0\0")
            for _ in range(mib):
                out.write(block)
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pull", "--serve", str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/model.gguf"
        try:
            for run in range(RUNS):
                to = folder / f"pulled-{run}"
                pull = [sys.executable, "-m", "inhouse", "pull", url, "--to", str(to)]
                row = {"run": run, "MiB": mib}
                wall, cpu = timed(pull, env=os.environ | {"NO_PROXY": "*", "HF_HOME": str(folder / "hf")})
                row |= {"pull_MiB_s": round(mib / wall), "pull_cpu_s": round(cpu, 2)}
                other = folder / f"curled-{run}"
                wall, cpu = timed(["curl", "-so", str(other), url], ["sha256sum", str(other)], ["sync", str(other)])
                row |= {"curl_MiB_s": round(mib / wall), "curl_cpu_s": round(cpu, 2)}
                print(json.dumps(row), flush=True)
                (to / "model.gguf").unlink()
                other.unlink()
        finally:
            server.communicate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
