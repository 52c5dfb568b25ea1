"""`https://host/file.gguf`: a file of any web server, of a split model with its other parts beside it."""

from __future__ import annotations

import base64
import hashlib
import netrc
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from inhouse.config.sources import SourceLine, is_this_machine
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.at_hand import at_hand
from inhouse.weights.delivered import delivered
from inhouse.weights.digest import Digest
from inhouse.weights.ranges import client
from inhouse.weights.remote import Address, Remote
from inhouse.weights.shelf import Destination, Folder, other_shelf
from inhouse.weights.splits import parts
from inhouse.weights.transfer import unreachable
from inhouse.weights.wanted import Got, Wanted

if TYPE_CHECKING:
    import httpx2

METADATA_TIMEOUT_S = 10.0
LATEST = "latest"
"""The one revision that an address has."""


def fetch(line: SourceLine, wanted: Wanted) -> Got:
    """Raises `WeightsError`."""
    shelf = other_shelf(wanted.spec.folder, line)
    if wanted.offline:
        return at_hand(line, shelf, shelf.version_of(LATEST), wanted)
    place: Destination = Folder(wanted.into) if wanted.into else shelf
    names = parts(line.name)
    try:
        with client(wanted.spec) as http:
            found = [_look_up(line, name, http, wanted.sha256 if len(names) == 1 else None) for name in names]
    except WeightsUnreachable as error:
        try:
            return at_hand(line, shelf, shelf.version_of(LATEST), wanted)
        except WeightsError:
            raise error from None
    version = hashlib.sha256(" ".join(f"{state} {remote.size}" for remote, state in found).encode()).hexdigest()[:40]
    return delivered(line, LATEST, [replace(remote, version=version) for remote, _ in found], place, wanted)


def _look_up(line: SourceLine, name: str, http: httpx2.Client, pinned: str | None) -> tuple[Remote, str]:
    """The file, and what tells its states apart: an ETag, or when it was changed."""
    import httpx2

    url = _beside(line.text, name)
    login = _login(url)
    shown = url.partition("?")[0]
    try:
        with http.stream("GET", url, headers={**login, "Range": "bytes=0-0"}, timeout=METADATA_TIMEOUT_S) as response:
            status, headers = response.status_code, response.headers
    except httpx2.TransportError as error:
        raise unreachable(url, str(error) or type(error).__name__) from error
    except (httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise WeightsError(f"{shown} cannot be fetched: {error}") from error
    if status not in (200, 206):
        raise refusal(shown, status)
    total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
    length = total[1] if total else headers.get("Content-Length") if status == 200 else None
    etag = headers.get("ETag", "")
    validator = etag if status == 206 and etag.startswith('"') else None
    digest = Digest("sha256", pinned.lower()) if pinned else None
    remote = Remote(
        name,
        int(length) if length else None,
        digest,
        "",
        lambda: Address(url, login),
        lambda status: refusal(shown, status),
        validator,
    )
    return remote, etag or headers.get("Last-Modified", "")


def refusal(shown: str, status: int) -> WeightsError:
    """What a final status means."""
    if status in (401, 403):
        return WeightsUnreachable(
            f"{shown} is not handed out without a proof of who asks (status {status})",
            hint="put name and password for that host into ~/.netrc, or name a signed address",
        )
    if status in (404, 410):
        return WeightsError(f"there is no {shown} (status {status})", hint="check the address")
    return WeightsUnreachable(f"{urlsplit(shown).netloc} answered {status} for {shown}", hint="try again later")


def _login(url: str) -> dict[str, str]:
    """What ~/.netrc (or NETRC) has for the host, as a header; never over a line that others can read."""
    parts = urlsplit(url)
    try:
        found = netrc.netrc(os.environ.get("NETRC") or None).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return {}
    if found is None or (parts.scheme != "https" and not is_this_machine(parts.hostname or "")):
        return {}
    proof = base64.b64encode(f"{found[0]}:{found[2]}".encode()).decode()
    return {"Authorization": f"Basic {proof}"}


def _beside(url: str, name: str) -> str:
    """The address of another file in the same folder."""
    split = urlsplit(url)
    return urlunsplit(split._replace(path=split.path.rpartition("/")[0] + "/" + quote(name)))
