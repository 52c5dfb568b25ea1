"""Finding the gateway that a command speaks to, and the key that it presents.

The address: `--base-url`, else INHOUSE_BASE_URL, else the configured host and port. The key: `--api-key`, else
INHOUSE_API_KEY, else, where the gateway is on this machine, one that is made in the state folder for the time of the
command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inhouse.cli.client import Gateway, Refused
from inhouse.errors import InhouseError

if TYPE_CHECKING:
    from ssl import SSLContext

    from inhouse.config import Stack

KEY_LIFETIME_S = 12 * 3600.0
"""How long a made key lives at most, should the command be killed before it revokes it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to look, as the options say."""

    config: Path | None = None
    base_url: str | None = None
    api_key: str | None = None
    state_dir: Path | None = None

    @property
    def url(self) -> str | None:
        """The address that is named, if one is."""
        return self.base_url or os.environ.get("INHOUSE_BASE_URL") or None

    def stack(self) -> Stack:
        from inhouse.config import load

        return load(self.config, environ=os.environ, flags={"state_dir": self.state_dir})

    def state_folder(self) -> Path:
        from inhouse.config import state_folder

        return state_folder(self.stack(), os.environ)


@contextmanager
def reach(target: Target, *, note: str, role: str = "") -> Iterator[Gateway]:
    """A gateway that listens, with a key. A key that was made has this role, and is revoked at the end.

    Raises:
        InhouseError: when nothing listens, or no key can be had.
    """
    gateway, stack = _gateway(target)
    gateway.ensure_reachable()
    if gateway.api_key or not _is_local(gateway):
        yield gateway
        return
    stack = stack or target.stack()
    if not stack.auth.enabled:
        yield gateway
        return
    with _made_key(target, note, role) as key:
        gateway.api_key = key
        try:
            yield gateway
        except Refused as refused:
            if refused.status == 401:
                refused.hint = (
                    f"this gateway does not keep its keys in {target.state_folder()}: "
                    "name its folder with --state-dir, or pass a key with --api-key or INHOUSE_API_KEY"
                )
            raise


def _gateway(target: Target) -> tuple[Gateway, Stack | None]:
    api_key = target.api_key or os.environ.get("INHOUSE_API_KEY") or None
    if target.url:
        return Gateway(target.url, api_key), None
    from inhouse.config import base_url as configured_url

    stack = target.stack()
    if stack.gateway.port == 0:
        raise InhouseError("the gateway picks its port itself (port 0)", hint="name its address with --base-url")
    return Gateway(configured_url(stack), api_key, tls=_trust(stack)), stack


def _is_local(gateway: Gateway) -> bool:
    from inhouse.config import is_loopback

    return is_loopback(gateway.host)


def _trust(stack: Stack) -> SSLContext | None:
    """For our own gateway: its very certificate, whatever name it bears."""
    if stack.gateway.tls_cert is None:
        return None
    import ssl

    context = ssl.create_default_context(cafile=str(stack.gateway.tls_cert))
    context.check_hostname = False
    return context


@contextmanager
def _made_key(target: Target, note: str, role: str) -> Iterator[str]:
    from inhouse.store.stores import Stores
    from inhouse.tenancy.desk import KeyDesk
    from inhouse.tenancy.key_acts import command_line_user
    from inhouse.tenancy.keys import Rights

    stores = Stores.of(target.stack(), os.environ)
    folder = stores.where
    rights, by = Rights(roles=frozenset({role} - {""})), command_line_user()
    made = KeyDesk(stores, target.stack()).temporary(note=note, lifetime_s=KEY_LIFETIME_S, rights=rights, by=by)
    try:
        key = made.__enter__()
    except (InhouseError, OSError) as error:
        raise InhouseError(
            f"no key could be made in {folder}: {error}",
            hint="pass one with --api-key or INHOUSE_API_KEY; `inhouse keys create` makes one",
        ) from error
    try:
        yield key
    finally:
        made.__exit__(None, None, None)
