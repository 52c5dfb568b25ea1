"""Certificates in files, and the contexts of TLS that are made of them: read anew when a file is another.

Who renews certificates (cert-manager, an ACME client, a person) writes the files; connections that are made from then
on have the new ones, and those that are open go on with what they began with. A set of files that does not fit
together, because somebody is just writing it, is left alone until it does.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inhouse.errors import EngineError, StackError

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files; without `ca`, the system's authorities are trusted."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def stamp(self) -> tuple[object, ...]:
        """Other files have another one. Raises OSError."""
        found = []
        for path in (self.ca, self.cert, self.key):
            if path is not None:
                seen = os.stat(path)  # through links: a Secret's volume changes by a link to another folder
                found.append((seen.st_ino, seen.st_mtime_ns, seen.st_size))
        return tuple(found)


class Kept:
    """A context that is as its files are. `make` makes it, or raises OSError (ssl.SSLError is one)."""

    def __init__(self, files: Files, make: Callable[[Files], ssl.SSLContext]) -> None:
        """Raises OSError for files that cannot be used."""
        self.trouble = ""
        """Why files that have changed are not used; "" while they are."""
        self._files = files
        self._make = make
        self._stamp = files.stamp
        self._context = make(files)
        self._look_s = time.monotonic() + _LOOK_S

    def context(self) -> ssl.SSLContext:
        """For the next connection. The files are looked at about once a second at most."""
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_S
            self._look()
        return self._context

    def _look(self) -> None:
        try:
            stamp = self._files.stamp
            if stamp != self._stamp:
                self._context = self._make(self._files)
                self._stamp = stamp
            self.trouble = ""
        except OSError as error:
            self.trouble = f"the certificate's files have changed and cannot be used: {error.strerror or error}"


def trusting(files: Files, where: str) -> Kept:
    """For connections that we make: whom we trust, and who we say that we are. Raises StackError."""
    try:
        return Kept(files, _client)
    except OSError as error:
        told = error.strerror or error
        if files.cert is None:
            raise StackError(
                f"the authorities in {files.ca} cannot be used: {told}",
                where=where,
                hint="a file in PEM format with one certificate or several",
            ) from None
        named = ", ".join(str(path) for path in (files.ca, files.cert, files.key) if path is not None)
        raise StackError(
            f"one of {named} cannot be used: {told}",
            where=where,
            hint="files in PEM format; the key belongs to the certificate and has no passphrase",
        ) from None


def in_front_of_an_engine(files: Files) -> Kept:
    """For connections that are made to us, by somebody with a certificate of `files.ca`. Raises StackError."""
    try:
        return Kept(files, _server)
    except OSError as error:
        raise StackError(
            f"{files.cert}, {files.key} and {files.ca} cannot be used: {error.strerror or error}",
            where="--cert",
            hint="files in PEM format; the key belongs to the certificate and has no passphrase",
        ) from None


def _client(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if files.ca is None else str(files.ca))
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key, password=_no_passphrase)
    return context


def _server(files: Files) -> ssl.SSLContext:
    assert files.cert is not None  # noqa: S101 - the command asks for it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # each connection shows its certificate anew, and none outlives it
    context.load_verify_locations(None if files.ca is None else str(files.ca))
    context.load_cert_chain(files.cert, files.key, password=_no_passphrase)
    return context


def _no_passphrase() -> str:
    """Nobody is there to be asked for one."""
    return ""


def refusal_of(error: Exception) -> EngineError | None:
    """What an engine's side says of our certificate; in TLS 1.3 it comes after our own handshake, as an alert."""
    if not isinstance(error, ssl.SSLError) or "_ALERT_" not in (error.reason or ""):
        return None
    told = (error.reason or "").partition("_ALERT_")[2].replace("_", " ").lower()
    return EngineError(
        f"the engine does not accept our certificate: {told}; the model's `cert_file` and `key_file` in inhouse.yaml "
        "name a certificate of an authority that the engine trusts, valid today and for clients"
    )
