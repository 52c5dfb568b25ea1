"""Who is measured, and what it takes to know that it is ready. How each is started is the business of its bench."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import requests
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.machine import python
from benchmarks.rig.processes import Child

START_S_MAX = 90.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that answers chat requests. `pids` are its own processes, engines not among them."""

    name: str
    addresses: Mapping[str, str]
    """By model."""
    pids: Callable[[], list[int]]
    key: str
    """What its clients send; a plain engine does not look at it."""


def wait_ready(address: str, model: str, child: Child, *, key: str, every_s: float = 0.01) -> None:
    """Until a chat request is answered. Raises FailedError when the child ends, or after START_S_MAX."""
    until = time.monotonic() + START_S_MAX
    answer = "nothing"
    while time.monotonic() < until:
        child.check()
        try:
            status, text = chat_once(address, model, key)
            if status == 200:
                return
            answer = f"{status} {text[:300]!r}"
        except OSError as error:
            answer = str(error)
        time.sleep(every_s)
    raise FailedError(f"{child.command[0]} was not ready within {START_S_MAX:g} s; it answered {answer}")


def chat_once(address: str, model: str, key: str) -> tuple[int, bytes]:
    """Status and body of the answer to a short request. Raises OSError."""
    head, _, body = requests.chat(model, key, stream=False, tokens=1, prompt="hello").partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return ask(address, "POST", "/v1/chat/completions", body, fields)


def ask(
    address: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One request on a connection of its own. Raises OSError."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def inhouse_command() -> tuple[str, ...]:
    return (python(), "-m", "inhouse")


def nginx_binary() -> str:
    """Raises SkippedError where it is not installed."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        raise SkippedError("nginx is not installed (Debian: apt-get install nginx-light)")
    return binary


def nginx_config(folder: Path, blocks: str, *, modules: str = "", log: str = "access_log off;") -> str:
    """One worker, kept-alive connections, temporary files in `folder`; `blocks` go into the http block."""
    user = "user root;\n" if os.geteuid() == 0 else ""  # what it reads is in a folder of ours alone
    return modules + user + _NGINX.format(folder=folder, blocks=blocks, log=log)


_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  {log}
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  client_max_body_size 8m;
  client_body_buffer_size 512k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{blocks}}}
"""
