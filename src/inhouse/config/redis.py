"""Where a Redis or Valkey is and how it is reached: the fields of every section that uses one. Not here: sockets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from inhouse.config.fields import Duration, Section, setting
from inhouse.config.fleet import SecretReference

_FORM = (
    "not the address of a Redis, such as redis://10.0.0.5:6379/0, rediss://… for TLS, "
    "redis+cluster://host:port, redis+sentinel://host:26379,host:26379/name, unix:///run/redis.sock, or env:VARIABLE"
)
_SCHEME = re.compile(r"(?:rediss?(?:\+(?:cluster|sentinel))?|unix)://")
_ENV = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")


def check_redis_url(text: str | None) -> str | None:
    """The text of an address, or a reference to it. Raises ValueError; the text itself is never shown."""
    if text is None or _ENV.fullmatch(text):
        return text
    if not _SCHEME.match(text) or any(character.isspace() for character in text):
        raise ValueError(_FORM)
    try:
        found = urlsplit(text)
    except ValueError:
        raise ValueError(_FORM) from None
    if found.password:
        raise ValueError("a password is never written into the file: name it with `password: env:REDIS_PASSWORD`")
    if not found.netloc and not text.startswith("unix:"):
        raise ValueError(_FORM)
    return text


RedisUrl = Annotated[str | None, AfterValidator(check_redis_url)]


class RedisPlace(Section):
    """A Redis or Valkey (7 or newer): alone, a cluster, or found through Sentinel."""

    url: RedisUrl = setting(
        None, "Its address, or `env:` and a variable that holds it.", example="redis://10.0.0.5:6379/0"
    )
    username: str | None = setting(
        None, "The user of its access list; without one, its default user.", example="inhouse"
    )
    password: SecretReference = setting(
        None, "Where the password is: `env:` and a variable, or `file:` and a path.", example="env:REDIS_PASSWORD"
    )
    ca_file: Path | None = setting(
        None, "Authorities that vouch for a `rediss://` address, in place of the system's.", example="./ca.pem"
    )
    timeout: Duration = setting(
        3.0, "How long it may take to connect, and to answer one command.", unit="seconds", gt=0, le=60
    )
