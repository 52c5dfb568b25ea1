"""The endpoints of a model as the stack writes them, read into addresses and into names that stand for several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from inhouse.engines.http import Address
from inhouse.engines.tls import Kept


@dataclass(frozen=True, slots=True)
class Name:
    """A name that stands for endpoints that come and go: `dns://host:port`, or `k8s://namespace/service:port`."""

    scheme: str
    host: str
    port: str
    namespace: str = ""
    tls: bool = False
    server_name: str | None = None

    @property
    def certified(self) -> str:
        """Whom certificates name: the name itself; of pods, whose addresses nobody certifies, their Service."""
        if self.server_name is not None:
            return self.server_name
        return self.host if self.scheme == "dns" else f"{self.host}.{self.namespace}.svc"


def read(text: str, tls: Kept | None, server_name: str | None = None) -> tuple[str, Address] | Name:
    """An endpoint's id and address, or the name to look up. The text has passed the stack's own check.

    `server_name`: whom a certificate names, where that is not the host.
    """
    if text.startswith("unix:"):
        return text, Address(socket=text.removeprefix("unix:"))
    parts = urlsplit(text)
    scheme, _, secure = parts.scheme.partition("+")
    if scheme == "dns":
        return Name("dns", parts.hostname or "", str(parts.port), "", secure == "https", server_name)
    if scheme == "k8s":
        service, _, port = parts.path.removeprefix("/").partition(":")
        return Name("k8s", service, port, parts.netloc, secure == "https", server_name)
    https = parts.scheme == "https"
    prefix = parts.path.rstrip("/").removesuffix("/v1").encode()
    host = parts.hostname or ""
    address = Address(host=host, port=parts.port or (443 if https else 80), prefix=prefix)
    if https:
        address = replace(address, tls=tls, server_name=server_name)
    return endpoint_id(address), address


def numbered(ip: str, port: int, name: Name, tls: Kept | None) -> tuple[str, Address]:
    """One of the addresses that a name stands for. A certificate is checked against the name, not the number."""
    address = Address(host=ip, port=port)
    if name.tls:
        address = replace(address, tls=tls, server_name=name.certified)
    return endpoint_id(address), address


def endpoint_id(address: Address) -> str:
    """`10.0.3.7:8000`, with the path in front of the API where there is one."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}{address.prefix.decode()}"
