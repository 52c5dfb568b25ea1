"""A small client of the API for the commands: http.client, nothing to install, quick to import.

Not here: how the address and the key are found (`reach.py`) and how an answer is shown (`chat.py`).
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from inhouse.core import Usage
from inhouse.errors import InhouseError

if TYPE_CHECKING:
    from ssl import SSLContext

CONNECT_TIMEOUT_S = 10.0
REPLY_TIMEOUT_S = 30.0
REPLY_BYTES_MAX = 16 * 1024 * 1024
LINE_BYTES_MAX = 1024 * 1024
UPLOAD_BYTES = 256 * 1024
UPLOAD_TIMEOUT_S = 300.0
"""Without a byte, when files are sent or fetched."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer; `usage` and `finish` come with the last ones."""

    kind: Literal["text", "thought", "usage", "finish"]
    text: str = ""
    usage: Usage | None = None


class Refused(InhouseError):
    """The gateway said no; `status` is that of HTTP."""

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Unreachable(InhouseError):
    """Nothing answers at the address."""


class Gateway:
    """A gateway at `base_url` (`http://host:port/v1`); without a path, `/v1` is added."""

    def __init__(self, base_url: str, api_key: str | None = None, *, tls: SSLContext | None = None) -> None:
        parts = urlsplit(base_url if "://" in base_url else f"http://{base_url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise InhouseError(f"`{base_url}` is not an address", hint="expected form: http://127.0.0.1:8080/v1")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.secure else 80)
        self.path = parts.path.rstrip("/") or "/v1"
        self.base_url = f"{parts.scheme}://{parts.netloc}{self.path}"
        self.api_key = api_key
        self._tls = tls

    def ensure_reachable(self) -> None:
        """Raises InhouseError when nothing listens there."""
        with self._connection() as connection:
            connection.connect()

    def models(self) -> list[dict[str, Any]]:
        """The entries of `/models`."""
        with self._connection() as connection:
            reply = self._ask(connection, "GET", "/models", None, timeout_s=REPLY_TIMEOUT_S)
            body = _object(reply.read(REPLY_BYTES_MAX))
        entries = body.get("data")
        if not isinstance(entries, list):
            raise self._no_api()
        return [entry for entry in entries if isinstance(entry, dict)]

    def story(self, request_id: str) -> list[dict[str, Any]]:
        """What `/admin/requests/{id}` tells, the newest first. Raises Refused where it is not known."""
        with self._connection() as connection:
            path = f"/admin/requests/{quote(request_id, safe='')}"
            reply = self._ask(connection, "GET", path, None, timeout_s=REPLY_TIMEOUT_S, root=True)
            found = _object(reply.read(REPLY_BYTES_MAX)).get("requests")
        if not isinstance(found, list):
            raise self._no_api()
        return [story for story in found if isinstance(story, dict)]

    def admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer of a path of the admin API."""
        with self._connection() as connection:
            reply = self._ask(connection, method, path, body, timeout_s=REPLY_TIMEOUT_S, root=True)
            return _object(reply.read(REPLY_BYTES_MAX))

    def upload(self, file: Path, purpose: str, sent: Callable[[int], None]) -> dict[str, Any]:
        """Sends a file; `sent` hears how many bytes have gone. Raises Refused, and OSError of the file."""
        boundary = os.urandom(16).hex()
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quote(file.name)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "User-Agent": "inhouse"}
        headers["Content-Length"] = str(len(head) + file.stat().st_size + len(tail))
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"

        def body() -> Iterator[bytes]:
            yield head
            with file.open("rb") as content:
                done = 0
                while chunk := content.read(UPLOAD_BYTES):
                    yield chunk
                    done += len(chunk)
                    sent(done)
            yield tail

        with self._connection() as connection:
            connection.connect()
            connection.sock.settimeout(UPLOAD_TIMEOUT_S)
            connection.request("POST", f"{self.path}/files", body(), headers)
            reply = connection.getresponse()
            if reply.status != 200:
                raise _refused(reply)
            return _object(reply.read(REPLY_BYTES_MAX))

    def content(self, file_id: str) -> Iterator[bytes]:
        """A file of the gateway, piece by piece."""
        with self._connection() as connection:
            path = f"/files/{quote(file_id, safe='')}/content"
            reply = self._ask(connection, "GET", path, None, timeout_s=UPLOAD_TIMEOUT_S)
            while chunk := reply.read(UPLOAD_BYTES):
                yield chunk

    def stream(self, body: dict[str, Any]) -> Generator[Piece, None, None]:
        """The pieces of an answer as they arrive. Closing the iterator hangs up, which frees the slot."""
        with self._connection() as connection:
            # no time limit: a long prompt may take minutes, and Ctrl-C is at hand
            reply = self._ask(connection, "POST", "/chat/completions", {**body, "stream": True}, timeout_s=None)
            try:
                yield from self._pieces(reply)
            finally:
                reply.close()

    def _pieces(self, reply: http.client.HTTPResponse) -> Iterator[Piece]:
        while line := _next_line(reply):
            field, _, data = line.decode("utf-8", "replace").partition(":")
            if field != "data":
                continue
            if data.strip() == "[DONE]":
                return
            yield from _pieces_of(_object(data))
        raise InhouseError("the answer broke off", hint="the gateway's log says why; ask again")

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        *,
        timeout_s: float | None,
        root: bool = False,
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json, text/event-stream", "User-Agent": "inhouse"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.connect()
        connection.sock.settimeout(timeout_s)
        connection.request(method, path if root else self.path + path, payload, headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise _refused(reply)
        return reply

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = (
            http.client.HTTPSConnection(self.host, self.port, timeout=CONNECT_TIMEOUT_S, context=self._tls)
            if self.secure
            else http.client.HTTPConnection(self.host, self.port, timeout=CONNECT_TIMEOUT_S)
        )
        try:
            yield connection
        except ConnectionRefusedError as error:
            raise Unreachable(f"nothing listens at {self.base_url}", hint="start it with `inhouse serve`") from error
        except OSError as error:
            raise Unreachable(f"no connection to {self.base_url}: {error.strerror or error}") from error
        except http.client.HTTPException as error:
            raise self._no_api() from error
        finally:
            connection.close()

    def _no_api(self) -> InhouseError:
        return InhouseError(
            f"what answers at {self.base_url} does not speak the OpenAI API",
            hint="name the gateway with --base-url, such as http://127.0.0.1:8080/v1",
        )


def _next_line(reply: http.client.HTTPResponse) -> bytes:
    """Empty at the end, be it a good one or not."""
    try:
        return reply.readline(LINE_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        return b""


def _pieces_of(chunk: dict[str, Any]) -> Iterator[Piece]:
    if isinstance(chunk.get("error"), dict):
        raise InhouseError(_message(chunk["error"]))
    for choice in chunk.get("choices") or []:
        delta = choice.get("delta") or {}
        if delta.get("reasoning_content"):
            yield Piece("thought", delta["reasoning_content"])
        if delta.get("content"):
            yield Piece("text", delta["content"])
        if choice.get("finish_reason"):
            yield Piece("finish", choice["finish_reason"])
    if usage := chunk.get("usage"):
        yield Piece("usage", usage=Usage(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)))


def _refused(reply: http.client.HTTPResponse) -> Refused:
    error = _object(reply.read(REPLY_BYTES_MAX)).get("error")
    message = _message(error) if isinstance(error, dict) else f"{reply.reason or 'refused'}"
    hint = None
    if reply.status == 401:
        hint = "pass a key with --api-key or INHOUSE_API_KEY; `inhouse keys create` makes one"
    elif reply.status == 403:
        hint = "pass a key that may, with --api-key or INHOUSE_API_KEY; on the gateway's own machine none is needed"
    elif retry_after := reply.headers.get("Retry-After"):
        hint = f"try again in {retry_after} s"
    return Refused(f"{message} (HTTP {reply.status})", status=reply.status, hint=hint)


def _message(error: dict[str, Any]) -> str:
    code = error.get("code") or error.get("type")
    return f"{error.get('message', 'no reason given')}" + (f" [{code}]" if code else "")


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
