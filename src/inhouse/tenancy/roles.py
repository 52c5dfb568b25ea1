"""What a caller may do: one table from role to permissions, and the two questions asked of it.

A role holds for the whole installation, not for one tenant. A caller without roles counts as `developer`, so keys keep
the rights that they always had. A role that is not in the table gives nothing.

Not here: who the caller is (`auth`, `oidc`), and which models and how much a key may use.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

from inhouse.core import ROLE_NAMES, Identity
from inhouse.errors import BadRequest, Forbidden

Role = Literal["admin", "operator", "developer", "auditor"]

Permission = Literal[
    "infer",
    "models.read",
    "tokens.count",
    "slots.read",
    "metrics.read",
    "usage.read_own",
    "usage.read",
    "keys.read",
    "keys.manage",
    "tenants.manage",
    "audit.read",
    "requests.read_own",
    "requests.read",
    "endpoints.read",
    "endpoints.manage",
    "route.override",
    "routes.read",
    "routes.manage",
    "chaos.run",
]

PERMISSIONS: dict[Permission, str] = {
    "infer": "send requests to models",
    "models.read": "list the models",
    "tokens.count": "count, split and join tokens",
    "slots.read": "see what the slots are doing",
    "metrics.read": "read the metrics",
    "usage.read_own": "see the use of one's own tenant",
    "usage.read": "see the use of every tenant",
    "keys.read": "list keys and tenants, never their secrets",
    "keys.manage": "make, rotate and revoke keys",
    "tenants.manage": "make and change tenants and their limits",
    "audit.read": "read the audit log",
    "requests.read_own": "see how a request of one's own tenant fared",
    "requests.read": "see how any request fared",
    "endpoints.read": "see every replica and what it reports",
    "endpoints.manage": "drain and undrain replicas",
    "route.override": "choose the endpoint that answers, past the routing policy",
    "routes.read": "see where names lead, and how canaries fare",
    "routes.manage": "switch and weigh routes, and decide over canaries",
    "chaos.run": "inject faults",
}

ROLES: dict[str, frozenset[Permission]] = {
    "admin": frozenset(PERMISSIONS),
    "operator": frozenset(
        {
            "infer",
            "models.read",
            "tokens.count",
            "slots.read",
            "metrics.read",
            "usage.read_own",
            "usage.read",
            "keys.read",
            "requests.read_own",
            "requests.read",
            "endpoints.read",
            "endpoints.manage",
            "route.override",
            "routes.read",
            "routes.manage",
            "chaos.run",
        }
    ),
    "developer": frozenset(
        {"infer", "models.read", "tokens.count", "slots.read", "usage.read_own", "requests.read_own"}
    ),
    "auditor": frozenset(
        {
            "models.read",
            "slots.read",
            "metrics.read",
            "usage.read_own",
            "usage.read",
            "keys.read",
            "audit.read",
            "requests.read_own",
            "requests.read",
            "endpoints.read",
            "routes.read",
        }
    ),
}

WITHOUT_ROLES = frozenset({"developer"})


def allows(identity: Identity, permission: Permission) -> bool:
    """Whether one of the caller's roles has `permission`."""
    return _allowed(identity.roles or WITHOUT_ROLES, permission)


@lru_cache(maxsize=1024)
def _allowed(roles: frozenset[str], permission: Permission) -> bool:
    none: frozenset[Permission] = frozenset()
    return any(permission in ROLES.get(role, none) for role in roles)


def require(identity: Identity, permission: Permission) -> None:
    """Raises `Forbidden`, naming the permission that is missing and the roles that have it."""
    if allows(identity, permission):
        return
    having = [role for role, permissions in ROLES.items() if permission in permissions]
    raise Forbidden(
        f"this needs the permission '{permission}' ({PERMISSIONS[permission]}), which "
        f"{_listed(having)} {'has' if len(having) == 1 else 'have'}; "
        f"this caller is {_listed(sorted((identity.roles or WITHOUT_ROLES) & ROLES.keys())) or 'of no known role'}"
    )


def checked(names: Iterable[str]) -> frozenset[str]:
    """The roles of these names. Raises `BadRequest`, naming the nearest role, for one that is not in the table."""
    roles = frozenset(names)
    for name in sorted(roles - ROLES.keys()):
        near = get_close_matches(name.lower(), ROLE_NAMES, n=1)
        way_out = f"did you mean '{near[0]}'?" if near else f"the roles are {_listed(list(ROLE_NAMES))}"
        raise BadRequest(f"there is no role '{name[:64]}'; {way_out}", param="roles")
    return roles


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
