"""The admin API of keys, use and tenants, at the real door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.keys_at_the_door import HOLDS_S, ask, made, seconds_until

from inhouse.wire.openapi_admin import ADMIN
from inhouse.wire.openapi_operation import Operation
from serving import Gateway, serving, started

STACK = """
models: {demo: {price: {input: 1, output: 2}}, other: {source: demo}}
tenants:
  acme: {weight: 2, limits: {tokens_per_day: 100000}}
  rival: {models: [demo]}
keys:
  ci: {from_file: ./ci.key, tenant: acme}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admin")


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[Gateway]:
    (folder / "ci.key").write_text("the-text-of-the-key-of-ci")
    with serving(folder, STACK) as running:
        running.wait_for(event="replica", state="ready")
        yield running


@pytest.fixture(scope="module")
def boss(door: Gateway, folder: Path) -> str:
    """The key of an admin; of the tenant `default`."""
    return str(made(folder, "--role", "admin")["key"])


def created(door: Gateway, boss: str, **fields: Any) -> dict[str, Any]:
    status, found = ask(door, boss, "/admin/keys", fields)
    assert status == 200, found
    return dict(found)


def listed(door: Gateway, boss: str, query: str = "") -> dict[str, dict[str, Any]]:
    status, found = ask(door, boss, f"/admin/keys{query}", None)
    assert status == 200, found
    return {key["id"]: key for key in found["keys"]}


@pytest.mark.parametrize("operation", ADMIN, ids=lambda one: f"{one.method} {one.path}")
def test_the_example_of_a_path(door: Gateway, boss: str, operation: Operation) -> None:
    """What the description of the API shows is answered to an admin."""
    key_id = created(door, boss)["id"] if "{id}" in operation.path else ""
    body = None if operation.request is None else operation.example
    status, told = ask(door, boss, operation.path.replace("{id}", key_id), body, operation.method.upper())
    assert status == 200, told


def test_a_key_that_is_made_opens_at_once(door: Gateway, boss: str) -> None:
    """With the rights that were asked for; the list shows them, and never the text again."""
    key = created(
        door,
        boss,
        note="agency",
        tenant="acme",
        models=["demo"],
        limits={"requests_per_minute": 1, "money_per_month": 2.5},
        expires="30 d",
    )
    assert ask(door, key["key"])[0] == 200
    assert ask(door, key["key"])[0] == 429
    shown = listed(door, boss)[key["id"]]
    assert shown.items() <= key.items()
    assert (shown["tenant"], shown["models"], shown["note"]) == ("acme", ["demo"], "agency")
    assert shown["limits"] == {"requests_per_minute": 1, "money_per_month": 2.5}
    assert "key" not in shown
    assert "hash" not in shown


def test_a_key_that_is_revoked_is_refused_at_once(door: Gateway, boss: str) -> None:
    """By the process that was asked with the very next request; twice is no error, and the first time stands."""
    key = created(door, boss)
    assert ask(door, key["key"], "/v1/models", None)[0] == 200
    status, gone = ask(door, boss, f"/admin/keys/{key['id']}", None, "DELETE")
    assert (status, gone["state"]) == (200, "revoked")
    assert ask(door, key["key"], "/v1/models", None)[0] == 401
    assert ask(door, boss, f"/admin/keys/{key['id']}", None, "DELETE")[1]["revoked_at"] == gone["revoked_at"]
    assert key["id"] not in listed(door, boss)
    assert listed(door, boss, "?all=true")[key["id"]]["state"] == "revoked"


def test_a_revocation_reaches_the_other_gateway(door: Gateway, boss: str, folder: Path) -> None:
    """Within two seconds, though only one process was asked."""
    key = created(door, boss)["key"]
    other = started(folder, STACK)
    try:
        seconds_until(lambda: ask(other, key, "/v1/models", None)[0] == 200)
        ask(door, boss, f"/admin/keys/{key.split('-')[2]}", None, "DELETE")
        assert seconds_until(lambda: ask(other, key, "/v1/models", None)[0] == 401) < HOLDS_S
    finally:
        other.stop()


def test_a_rotated_key(door: Gateway, boss: str) -> None:
    """Both texts open while the grace lasts; without one the old text is refused at once."""
    first = created(door, boss)
    status, second = ask(door, boss, f"/admin/keys/{first['id']}/rotate", {"grace": "1 h"})
    assert (status, second["id"]) == (200, first["id"])
    assert second["old_accepted_until"] is not None
    assert [ask(door, key["key"], "/v1/models", None)[0] for key in (first, second)] == [200, 200]
    third = ask(door, boss, f"/admin/keys/{first['id']}/rotate", {"grace": "0"})[1]
    assert [ask(door, key["key"], "/v1/models", None)[0] for key in (first, second, third)] == [401, 401, 200]


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({"roles": ["amdin"]}, "roles", "did you mean 'admin'"),
        ({"models": ["dmeo"]}, "models", "did you mean 'demo'"),
        ({"limits": {"token_per_day": 5}}, "limits", "did you mean 'tokens_per_day'"),
        ({"limits": {"tokens_per_day": 1.5}}, "limits", "not a whole number"),
        ({"limit": {}}, "limit", "did you mean `limits`"),
        ({"tenant": "no such name"}, "tenant", "a tenant's name"),
        ({"expires": "soon"}, "expires", "is no lifetime"),
        ({"note": "a\nb"}, "note", "one line"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(
    door: Gateway, boss: str, body: dict[str, Any], param: str, told: str
) -> None:
    """400, with the field; a field that does not exist is refused, never passed over."""
    before = listed(door, boss)
    status, answer = ask(door, boss, "/admin/keys", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert told in answer["error"]["message"]
    assert listed(door, boss) == before


def test_what_is_not_there_or_cannot_be_changed(door: Gateway, boss: str) -> None:
    """404 for an unknown key, 409 for one that is declared or revoked, 400 for an unknown parameter."""
    assert ask(door, boss, "/admin/keys/aaaaaaaaaa", None, "DELETE")[0] == 404
    status, told = ask(door, boss, "/admin/keys/ci", None, "DELETE")
    assert (status, told["error"]["code"]) == (409, "conflict")
    assert "declared in inhouse.yaml" in told["error"]["message"]
    gone = created(door, boss)["id"]
    ask(door, boss, f"/admin/keys/{gone}", None, "DELETE")
    assert ask(door, boss, f"/admin/keys/{gone}/rotate", {})[0] == 409
    assert ask(door, boss, "/admin/keys?tenantt=acme", None)[0] == 400
    assert ask(door, boss, "/admin/usage?by=tennant", None)[0] == 400
    assert set(listed(door, boss, "?tenant=rival")) == set()
    assert listed(door, boss, "?tenant=acme")["ci"]["reference"].endswith("ci.key")


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("developer", {"GET /admin/usage", "GET /admin/tenants"}),
        ("operator", {"GET /admin/usage", "GET /admin/tenants", "GET /admin/keys"}),
        ("auditor", {"GET /admin/usage", "GET /admin/tenants", "GET /admin/keys"}),
    ],
)
def test_who_may_do_what(door: Gateway, boss: str, role: str, may: set[str]) -> None:
    """Only an admin makes, rotates and revokes; the others read as their roles say."""
    key, target = created(door, boss, roles=[role])["key"], created(door, boss)["id"]
    for operation in ADMIN:
        body = None if operation.request is None else operation.example
        status, _ = ask(door, key, operation.path.replace("{id}", target), body, operation.method.upper())
        allowed = f"{operation.method.upper()} {operation.path}" in may
        assert status == (200 if allowed else 403), operation
    assert listed(door, boss)[target]["state"] == "live"


def test_two_tenants_never_see_each_other(door: Gateway, boss: str) -> None:
    """A developer sees the own tenant's use and limits, whatever is asked for; who may see all sees both."""
    keys = {tenant: created(door, boss, tenant=tenant)["key"] for tenant in ("acme", "rival")}
    for key in keys.values():
        assert ask(door, key)[0] == 200

    def tenants_in(key: str, query: str = "") -> set[str]:
        return {row["tenant"] for row in ask(door, key, f"/admin/usage{query}", None)[1]["usage"]}

    seconds_until(lambda: {"acme", "rival"} <= tenants_in(boss))
    for tenant, other in (("acme", "rival"), ("rival", "acme")):
        assert tenants_in(keys[tenant]) == tenants_in(keys[tenant], f"?tenant={tenant}") == {tenant}
        status, told = ask(door, keys[tenant], f"/admin/usage?tenant={other}", None)
        assert (status, told["error"]["code"]) == (403, "permission_denied")
        (row,) = ask(door, keys[tenant], "/admin/tenants", None)[1]["tenants"]
        assert row["tenant"] == tenant
        assert other not in str(row)
        assert ask(door, keys[tenant], "/admin/usage?tenant=acme&tenant=rival", None)[0] == 400
    acme = next(row for row in ask(door, boss, "/admin/tenants", None)[1]["tenants"] if row["tenant"] == "acme")
    assert acme["limits"]["tokens_per_day"]["limit"] == 100000
    assert acme["limits"]["tokens_per_day"]["used"] > 0
    by_model = ask(door, boss, "/admin/usage?tenant=rival&by=model", None)[1]["usage"]
    assert [(row["model"], row["requests"]) for row in by_model] == [("demo", 1)]


def test_who_changed_a_key_stands_in_the_log(folder: Path, door: Gateway, boss: str) -> None:
    """Who, which key, which request; nothing of any key's text, neither in the log nor in a listing."""
    key = created(door, boss)
    status, _ = ask(door, boss, f"/admin/keys/{key['id']}", None, "DELETE")
    assert status == 200
    seconds_until(lambda: any("key revoked" in line and key["id"] in line for line in door.log))
    (line,) = [line for line in door.log if "key made" in line and key["id"] in line]
    assert f'"by":"{boss.split("-")[2]}"' in line
    secret = key["key"].split("-", 3)[3]
    assert not any(secret in line for line in door.log)
