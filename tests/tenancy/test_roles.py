"""Who may do what, and what the refused are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from inhouse.core import ANONYMOUS, ROLE_NAMES, Identity
from inhouse.errors import BadRequest, Forbidden
from inhouse.tenancy.roles import PERMISSIONS, ROLES, Permission, Role, allows, checked, require


def caller(*roles: str) -> Identity:
    return Identity("k", roles=frozenset(roles))


def test_the_tables_are_complete() -> None:
    """Every permission is described and held by someone; every role is in the table; the types say the same."""
    assert set(PERMISSIONS) == set(get_args(Permission))
    assert tuple(ROLES) == get_args(Role) == ROLE_NAMES
    assert frozenset().union(*ROLES.values()) == set(PERMISSIONS)
    assert ROLES["admin"] == set(PERMISSIONS)


@pytest.mark.parametrize("identity", [caller(), caller("developer"), ANONYMOUS])
def test_a_caller_without_roles_is_a_developer(identity: Identity) -> None:
    """What keys could do before there were roles, they can do: infer, list, count, look at slots and at their own."""
    can = {permission for permission in PERMISSIONS if allows(identity, permission)}
    assert can == {"infer", "models.read", "tokens.count", "slots.read", "usage.read_own", "requests.read_own"}


def test_an_auditor_reads_and_changes_nothing() -> None:
    """No inference, no keys made, no faults: every permission of the role is a reading one."""
    assert ROLES["auditor"]
    assert all(permission.split(".")[-1] in ("read", "read_own") for permission in ROLES["auditor"])


@pytest.mark.parametrize("permission", ["keys.manage", "tenants.manage", "audit.read"])
def test_an_operator_runs_the_system_and_not_its_people(permission: Permission) -> None:
    """Keys, tenants and the audit log are beyond the operator."""
    assert not allows(caller("operator"), permission)
    assert allows(caller("operator"), "route.override")


def test_roles_add_up() -> None:
    """Two roles give what either gives."""
    both = caller("operator", "auditor")
    assert {p for p in PERMISSIONS if allows(both, p)} == ROLES["operator"] | ROLES["auditor"]


@pytest.mark.parametrize("roles", [("root",), ("Admin",), ("",)])
def test_an_unknown_role_gives_nothing(roles: tuple[str, ...]) -> None:
    """Not even what a caller without roles has: a role was meant, and it is not one of ours."""
    assert not any(allows(caller(*roles), permission) for permission in PERMISSIONS)


def test_the_refused_are_told_what_is_missing_and_who_has_it() -> None:
    """Permission, its meaning, the roles that have it, and the caller's own."""
    require(caller("admin"), "keys.manage")
    with pytest.raises(Forbidden) as caught:
        require(caller(), "keys.manage")
    assert caught.value.message == (
        "this needs the permission 'keys.manage' (make, rotate and revoke keys), which admin has; "
        "this caller is developer"
    )
    with pytest.raises(Forbidden, match=r"which admin, operator and developer have; this caller is auditor$"):
        require(caller("auditor"), "infer")
    with pytest.raises(Forbidden) as caught:
        require(caller("zzz-secret"), "infer")
    assert "zzz-secret" not in caught.value.message
    assert caught.value.message.endswith("this caller is of no known role")


def test_the_page_shows_the_table() -> None:
    """docs/roles.md has every permission, its meaning and its roles, as they are."""
    page = (Path(__file__).parents[2] / "docs" / "roles.md").read_text()
    rows = re.findall(
        r"^\| `([a-z._]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE
    )
    shown = {row[0]: (row[1], *(cell.strip() for cell in row[2:])) for row in rows}
    assert shown == {
        permission: (meaning, *("yes" if permission in ROLES[role] else "" for role in ROLES))
        for permission, meaning in PERMISSIONS.items()
    }
    assert re.search(r"\| permission \| allows to \| " + r" \| ".join(ROLES) + r" \|", page)


def test_roles_that_are_given_to_a_key_exist() -> None:
    """A role with a typo would give nothing; it is refused with the nearest one."""
    assert checked(["admin", "auditor", "admin"]) == {"admin", "auditor"}
    with pytest.raises(BadRequest, match=r"no role 'Auditors'; did you mean 'auditor'\?"):
        checked(["developer", "Auditors"])
    with pytest.raises(BadRequest, match=r"the roles are admin, operator, developer and auditor"):
        checked(["root"])
