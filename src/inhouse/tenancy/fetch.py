"""One JSON document from an issuer, within limits. It blocks, so it runs in a thread and never in the event loop.

Not here: when to ask and what to keep (`issuer`), what the document means (`jwk`).
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from inhouse.config import is_loopback

DOCUMENT_BYTES_MAX = 256 * 1024
DOCUMENT_S_MAX = 15.0
_CHUNK_BYTES = 16 * 1024


class FetchFailed(Exception):
    """The document could not be had. The text is fit for a log: it names the address and never holds content."""


def url_fault(url: str) -> str | None:
    """What forbids fetching from `url`; None where nothing does. Plain http is for loopback only."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "contains characters that a URL cannot have"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if not host:
        return "is not a URL with a host"
    if parts.username is not None or parts.password is not None:
        return "contains a user name or password"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return None
    return "must start with https:// (plain http:// is accepted for this machine only)"


def fetch_object(url: str, *, timeout_s: float, ca_file: Path | None = None) -> dict[str, Any]:
    """The JSON object at `url`. Redirects are refused: they would leave the host that the settings name.

    `timeout_s` holds for connecting and for each pause; the whole document has `DOCUMENT_S_MAX`. Proxies of the
    environment are used, except towards this machine. `ca_file` replaces the system's certificate authorities.

    Raises:
        FetchFailed: unreachable, refused, too large, too slow, or not a JSON object.
    """
    fault = url_fault(url)
    if fault is not None:
        raise FetchFailed(f"the address {fault}")
    try:
        with _opener(url, ca_file).open(_request(url), timeout=timeout_s) as response:
            body = _bounded(url, response)
    except urllib.error.HTTPError as error:
        with error:
            redirect = ", a redirect, which is not followed" if 300 <= error.code < 400 else ""
            raise FetchFailed(f"{url} answered {error.code}{redirect}") from None
    except urllib.error.URLError as error:
        raise FetchFailed(f"{url} cannot be reached: {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchFailed(f"{url} cannot be read: {type(error).__name__}") from None
    return _object(url, body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: urllib.request.Request, *rest: object) -> None:
        return None


def _opener(url: str, ca_file: Path | None) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    if url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
    return urllib.request.build_opener(*handlers)


def _request(url: str) -> urllib.request.Request:
    headers = {"Accept": "application/json", "User-Agent": "inhouse"}
    return urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was looked at by `url_fault`


def _bounded(url: str, response: IO[bytes]) -> bytes:
    deadline_s = time.monotonic() + DOCUMENT_S_MAX
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]  # HTTPResponse has it, IO does not
        body += chunk
        if len(body) > DOCUMENT_BYTES_MAX:
            raise FetchFailed(f"{url} is longer than {DOCUMENT_BYTES_MAX} bytes")
        if time.monotonic() > deadline_s:
            raise FetchFailed(f"{url} took longer than {DOCUMENT_S_MAX:g} s")
    return bytes(body)


def _object(url: str, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchFailed(f"{url} did not answer with JSON") from None
    if not isinstance(document, dict):
        raise FetchFailed(f"{url} did not answer with a JSON object")
    return document
