"""A container registry: how it wants to know who asks, and where its manifests and blobs are.

A registry that refuses says where a token is to be had (RFC 6750, distribution/spec/auth/token); name and password for
that come from Docker's files: `$DOCKER_CONFIG/config.json`, `$REGISTRY_AUTH_FILE`, `~/.docker/config.json`, and the
`docker-credential-…` programs that they name. Tokens live for minutes and are got anew when one is taken no more.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from inhouse.config.sources import SourceLine, is_this_machine
from inhouse.config.weights import WeightsSpec
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.remote import Address
from inhouse.weights.transfer import unreachable

if TYPE_CHECKING:
    import httpx2

MANIFEST_BYTES_MAX = 4 * 2**20
METADATA_TIMEOUT_S = 10.0

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """One repository of it."""

    def __init__(self, http: httpx2.Client, line: SourceLine, spec: WeightsSpec) -> None:
        self._http = http
        self._line = line
        host, repo = line.place, line.name
        self.host = host
        if host == "docker.io":
            host, repo = "registry-1.docker.io", repo if "/" in repo else f"library/{repo}"
        plain = line.place in spec.oci_plain_http or is_this_machine(urlsplit(f"//{host}").hostname or "")
        self._base = f"{'http' if plain else 'https'}://{host}/v2/{repo}"
        self._plain = plain
        self._scope = f"repository:{repo}:pull"
        self._proof: dict[str, str] = {}

    def manifest(self, reference: str, kinds: Sequence[str]) -> bytes:
        """Raises `WeightsError`."""
        import httpx2

        url = f"{self._base}/manifests/{reference}"
        for last in (False, True):
            headers = {**self._proof, "Accept": ", ".join(kinds)}
            try:
                with self._http.stream("GET", url, headers=headers, timeout=METADATA_TIMEOUT_S) as response:
                    if response.status_code == 401 and not last:
                        self._prove(response.headers.get("WWW-Authenticate", ""))
                        continue
                    if response.status_code != 200:
                        raise self.refusal(response.status_code)
                    raw = b""
                    for data in response.iter_raw():
                        raw += data
                        if len(raw) > MANIFEST_BYTES_MAX:
                            raise WeightsError(f"the manifest of {self._line.shown} is larger than 4 MiB")
                    return raw
            except httpx2.TransportError as error:
                raise unreachable(url, str(error) or type(error).__name__) from error
            except httpx2.HTTPError as error:
                raise WeightsError(f"{self._line.shown} cannot be fetched: {error}") from error
        raise AssertionError("the second try returns or raises")

    def addresses(self, digest: str) -> Callable[[], Address]:
        """Where a blob is; asked again, with a new token."""
        url = f"{self._base}/blobs/{digest}"
        asked = False

        def address() -> Address:
            nonlocal asked
            if asked and self._proof:
                self._renew(url)
            asked = True
            return Address(url, dict(self._proof))

        return address

    def refusal(self, status: int) -> WeightsError:
        """What a final status means."""
        shown = self._line.shown
        if status in (401, 403):
            return WeightsUnreachable(
                f"{self.host} refuses to hand out {shown} (status {status})",
                hint=f"log in with `docker login {self.host}` or `oras login {self.host}` as somebody who may read it",
            )
        if status == 404:
            return WeightsError(f"{self.host} has no {shown}", hint="check repository and tag")
        return WeightsUnreachable(f"{self.host} answered {status} for {shown}", hint="try again later")

    def _renew(self, url: str) -> None:
        import httpx2

        try:
            response = self._http.get(url, headers={"Range": "bytes=0-0"}, timeout=METADATA_TIMEOUT_S)
        except httpx2.TransportError as error:
            raise unreachable(url, str(error) or type(error).__name__) from error
        self._prove(response.headers.get("WWW-Authenticate", ""))

    def _prove(self, challenge: str) -> None:
        """Gets what the registry wants to see. Raises `WeightsError`."""
        kind, _, rest = challenge.partition(" ")
        login = _login(self.host)
        if kind.lower() == "basic" and login:
            self._proof = {"Authorization": f"Basic {_basic(login)}"}
        elif kind.lower() == "bearer":
            self._proof = {"Authorization": f"Bearer {self._token(dict(_CHALLENGE.findall(rest)), login)}"}
        else:
            raise self.refusal(401)

    def _token(self, said: Mapping[str, str], login: tuple[str, str] | None) -> str:
        import httpx2

        realm = urlsplit(said.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and self._plain):
            raise WeightsError(f"{self.host} sends those who ask for a token to {said.get('realm', '')[:200]!r}")
        asked = {"service": said.get("service", ""), "scope": said.get("scope") or self._scope}
        headers = {"Authorization": f"Basic {_basic(login)}"} if login and login[0] != "<token>" else {}
        try:
            if login and login[0] == "<token>":
                body = {"grant_type": "refresh_token", "refresh_token": login[1], "client_id": "inhouse", **asked}
                response = self._http.post(realm.geturl(), data=body, timeout=METADATA_TIMEOUT_S)
            else:
                response = self._http.get(
                    realm.geturl(), params=asked, headers=headers, timeout=METADATA_TIMEOUT_S, follow_redirects=False
                )
        except httpx2.TransportError as error:
            raise unreachable(realm.geturl(), str(error) or type(error).__name__) from error
        if response.status_code != 200:
            raise self.refusal(response.status_code if response.status_code in (401, 403, 429) else 401)
        try:
            answer = response.json()
            token = answer.get("token") or answer["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise WeightsError(f"{realm.netloc} gives no token that can be read") from error
        return str(token)


def _basic(login: tuple[str, str]) -> str:
    return base64.b64encode(f"{login[0]}:{login[1]}".encode()).decode()


def _login(host: str) -> tuple[str, str] | None:
    """Name and password for a registry; `<token>` and a token where that is kept instead."""
    names = ("https://index.docker.io/v1/", host) if host == "docker.io" else (host, f"https://{host}")
    for file in _files():
        try:
            document = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue
        for name in names:
            found = _in_file(document, name)
            if found:
                return found
    return None


def _files() -> list[Path]:
    named = os.environ.get("REGISTRY_AUTH_FILE")
    docker = os.environ.get("DOCKER_CONFIG") or "~/.docker"
    return [*([Path(named)] if named else []), Path(docker).expanduser() / "config.json"]


def _in_file(document: Any, name: str) -> tuple[str, str] | None:
    if not isinstance(document, dict):
        return None
    program = (document.get("credHelpers") or {}).get(name) or document.get("credsStore")
    entry = (document.get("auths") or {}).get(name)
    if isinstance(entry, dict):
        if isinstance(entry.get("identitytoken"), str):
            return "<token>", entry["identitytoken"]
        try:
            user, found, password = base64.b64decode(str(entry.get("auth") or "")).decode().partition(":")
        except ValueError:
            return None
        if found:
            return user, password
    return _from_program(str(program), name) if program else None


def _from_program(program: str, name: str) -> tuple[str, str] | None:
    """github.com/docker/docker-credential-helpers: the name goes in, a document comes out."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", program):
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{program}", "get"], input=name.encode(), capture_output=True, timeout=10, check=True
        )
        answer = json.loads(done.stdout)
        return str(answer["Username"]), str(answer["Secret"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
