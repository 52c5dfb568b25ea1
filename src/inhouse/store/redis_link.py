"""The one place where a connection to Redis or Valkey is made: address, user, password, TLS, Sentinel, Cluster.

A `Link` is the place as the stack names it, with what is secret read; `connect` opens a client on the event loop,
`connect_blocking` one for a thread. What is done with the client is not here. Replies come in RESP2's shapes and as
bytes, whatever the client's defaults are.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from inhouse.config.redis import RedisPlace, check_redis_url
from inhouse.config.secrets import read_secret
from inhouse.errors import StackError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PORT, _SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, slots=True)
class Link:
    """How to reach one Redis. `shown` names it in messages, without user and password."""

    kind: str
    """`alone`, `cluster` or `sentinel`."""
    hosts: tuple[tuple[str, int], ...]
    socket: str | None
    service: str
    """What Sentinel calls the servers, "" elsewhere."""
    database: int
    options: Mapping[str, Any]
    shown: str
    timeout_s: float

    def connect(self) -> Redis:
        """A client that connects when it is first used and after each break. It tells nothing twice: a call that fails
        has failed. Close it with `aclose`."""
        from redis.asyncio import Redis, RedisCluster
        from redis.asyncio.cluster import ClusterNode
        from redis.asyncio.retry import Retry
        from redis.asyncio.sentinel import Sentinel
        from redis.backoff import NoBackoff

        usual: dict[str, Any] = {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "protocol": 2,
            **self.options,
        }
        if self.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self.hosts]
            return RedisCluster(startup_nodes=nodes, **usual)  # type: ignore[return-value]
        usual["retry"] = Retry(NoBackoff(), 0)
        if self.kind == "sentinel":
            kwargs = {"socket_timeout": self.timeout_s, "protocol": 2}
            kwargs |= {name: value for name, value in self.options.items() if name.startswith("ssl")}
            sentinel: Any = Sentinel(list(self.hosts), sentinel_kwargs=kwargs, db=self.database, **usual)  # type: ignore[no-untyped-call]
            client: Redis = sentinel.master_for(self.service)
            return client
        if self.socket is not None:
            return Redis(unix_socket_path=self.socket, db=self.database, **usual)
        host, port = self.hosts[0]
        return Redis(host=host, port=port, db=self.database, **usual)

    def connect_blocking(self) -> Any:
        """The same for a thread. It tells nothing twice: a call that fails has failed. Close it with `close`."""
        from redis import Redis, RedisCluster
        from redis.backoff import NoBackoff
        from redis.cluster import ClusterNode
        from redis.retry import Retry
        from redis.sentinel import Sentinel

        usual: dict[str, Any] = {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            **self.options,
        }
        if self.kind == "cluster":
            nodes: list[Any] = [ClusterNode(host, port) for host, port in self.hosts]  # type: ignore[no-untyped-call]
            return RedisCluster(startup_nodes=nodes, **usual)
        if self.kind == "sentinel":
            kwargs = {"socket_timeout": self.timeout_s, "protocol": 2}
            kwargs |= {name: value for name, value in self.options.items() if name.startswith("ssl")}
            sentinel: Any = Sentinel(list(self.hosts), sentinel_kwargs=kwargs, db=self.database, **usual)  # type: ignore[no-untyped-call]
            return sentinel.master_for(self.service)
        if self.socket is not None:
            return Redis(unix_socket_path=self.socket, db=self.database, **usual)
        host, port = self.hosts[0]
        return Redis(host=host, port=port, db=self.database, **usual)


def link_of(place: RedisPlace, environ: Mapping[str, str], where: str) -> Link:
    """The link that a section of the stack describes; `where` is that section. Raises StackError."""
    require_redis(where)
    text = place.url or ""
    if text.startswith("env:"):
        text = read_secret(text, environ, f"{where}.url")
        try:
            check_redis_url(_without_password(text))
        except ValueError as error:
            raise StackError(f"the value of {place.url} is {error}", where=f"{where}.url") from None
    if not text:
        raise StackError(f"`{where}.url` is not set", where=where, hint="expected form: redis://host:6379/0")
    given = urlsplit(text)
    scheme, _, kind = given.scheme.partition("+")
    user = place.username or (unquote(given.username) if given.username else None)
    password = unquote(given.password) if given.password else None
    if place.password is not None:
        password = read_secret(place.password, environ, f"{where}.password")
    options: dict[str, Any] = {}
    if user:
        options["username"] = user
    if password:
        options["password"] = password
    if scheme == "rediss":
        options |= {"ssl": True, "ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        if place.ca_file is not None:
            options["ssl_ca_certs"] = str(place.ca_file)
    netloc = given.netloc.rpartition("@")[2]
    parts = [part for part in given.path.split("/") if part]
    if scheme == "unix":
        return Link("alone", (), given.path, "", 0, options, f"unix:{given.path}", place.timeout)
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    hosts = tuple(_host(one, default, where) for one in netloc.split(","))
    service = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not service:
        raise StackError(
            "the address of Sentinels does not say which servers they watch",
            where=f"{where}.url",
            hint="expected form: redis+sentinel://host:26379,host:26379/name",
        )
    if parts and not parts[0].isdigit():
        raise StackError("a database is a number", where=f"{where}.url", hint="expected form: redis://host:6379/0")
    return Link(
        kind or "alone",
        hosts,
        None,
        service,
        int(parts[0]) if parts else 0,
        options,
        f"{given.scheme}://{netloc}{given.path}",
        place.timeout,
    )


def require_redis(where: str) -> None:
    """Raises StackError where the library that speaks to Redis is not installed."""
    try:
        import redis.asyncio  # noqa: F401
    except ImportError:
        raise StackError(
            f"`{where}` needs the extra 'redis'", where=where, hint="pip install 'inhouse[redis]'"
        ) from None


def _host(text: str, default: int, where: str) -> tuple[str, int]:
    try:
        found = urlsplit(f"//{text}")
        return found.hostname or "127.0.0.1", found.port or default
    except ValueError:
        raise StackError("a port is a number from 1 to 65535", where=f"{where}.url") from None


def _without_password(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{login.partition(':')[0]}{at}{place}" if at else text
