"""The endpoints of a model as the stack writes them, read into addresses and into names that stand for several."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from inhouse.engines.http import Address
from inhouse.errors import StackError


@dataclass(frozen=True, slots=True)
class Name:
    """A name that stands for endpoints that come and go: `dns://host:port`, or `k8s://namespace/service:port`."""

    scheme: str
    host: str
    port: str
    namespace: str = ""
    tls: bool = False


def read(text: str, tls: ssl.SSLContext) -> tuple[str, Address] | Name:
    """An endpoint's id and address, or the name to look up. The text has passed the stack's own check."""
    if text.startswith("unix:"):
        return text, Address(socket=text.removeprefix("unix:"))
    parts = urlsplit(text)
    scheme, _, secure = parts.scheme.partition("+")
    if scheme == "dns":
        return Name("dns", parts.hostname or "", str(parts.port), tls=secure == "https")
    if scheme == "k8s":
        service, _, port = parts.path.removeprefix("/").partition(":")
        return Name("k8s", service, port, parts.netloc, tls=secure == "https")
    https = parts.scheme == "https"
    prefix = parts.path.rstrip("/").removesuffix("/v1").encode()
    host = parts.hostname or ""
    address = Address(host=host, port=parts.port or (443 if https else 80), prefix=prefix, tls=tls if https else None)
    return endpoint_id(address), address


def numbered(ip: str, port: int, name: Name, tls: ssl.SSLContext) -> tuple[str, Address]:
    """One of the addresses that a name stands for. A certificate is checked against the name, not the number."""
    address = Address(host=ip, port=port)
    if name.tls:
        address = replace(address, tls=tls, server_name=name.host if name.scheme == "dns" else None)
    return endpoint_id(address), address


def endpoint_id(address: Address) -> str:
    """`10.0.3.7:8000`, with the path in front of the API where there is one."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}{address.prefix.decode()}"


def trust(ca_file: Path | None, where: str) -> ssl.SSLContext:
    """What https endpoints are checked against. Raises StackError where the file cannot be used."""
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise StackError(
            f"the authorities in {ca_file} cannot be used: {error.strerror or error}",
            where=where,
            hint="a file in PEM format with one certificate or several",
        ) from None
