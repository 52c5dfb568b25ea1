"""How a Redis is reached: what the stack may say, what is kept out of it, and that a client comes of it that works."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from inhouse.config.redis import RedisPlace
from inhouse.errors import StackError
from inhouse.store.redis_link import link_of
from services import redis_server


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    """A secret is referred to, never written down."""
    with pytest.raises(ValidationError) as caught:
        RedisPlace(url="redis://:hunter2@host:6379/0")
    assert "hunter2" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "service", "database"),
    [
        ("redis://10.0.0.5", "alone", (("10.0.0.5", 6379),), "", 0),
        ("redis://[::1]:7000/3", "alone", (("::1", 7000),), "", 3),
        ("redis+cluster://a:1,b:2", "cluster", (("a", 1), ("b", 2)), "", 0),
        ("redis+sentinel://a,b:5/main/2", "sentinel", (("a", 26379), ("b", 5)), "main", 2),
    ],
)
def test_each_form_of_address_is_understood(
    url: str, kind: str, hosts: tuple[tuple[str, int], ...], service: str, database: int
) -> None:
    """Alone, cluster and Sentinel, with the usual ports where none is named."""
    link = link_of(RedisPlace(url=url), {}, "queue")
    assert (link.kind, link.hosts, link.service, link.database) == (kind, hosts, service, database)


def test_a_secret_comes_from_where_the_stack_points_and_is_not_shown(tmp_path: Path) -> None:
    """The password of a file wins over one in an address that a variable holds; `shown` has neither."""
    (tmp_path / "password").write_text("s3cret\n")
    place = RedisPlace(url="env:WHERE", password=f"file:{tmp_path}/password", username="door")
    link = link_of(place, {"WHERE": "rediss://other:old@redis.internal:6380/1"}, "queue")
    assert link.options["password"] == "s3cret"
    assert link.options["username"] == "door"
    assert link.options["ssl"] is True
    assert link.shown == "rediss://redis.internal:6380/1"


def test_a_variable_that_is_not_set_is_named() -> None:
    """The message names the setting and the variable."""
    with pytest.raises(StackError, match="the variable NOWHERE is not set") as caught:
        link_of(RedisPlace(url="env:NOWHERE"), {}, "queue")
    assert caught.value.where == "queue.url"


async def test_a_client_that_comes_of_a_link_works(tmp_path: Path) -> None:
    """Bytes in, bytes out, with the user and the password that the server asks for."""
    with redis_server(tmp_path, "--requirepass", "s3cret") as server:
        place = RedisPlace(url=server.url, password="env:PASSWORD")
        client = link_of(place, {"PASSWORD": "s3cret"}, "queue").connect()
        try:
            await client.set("a", "b")
            assert await client.get("a") == b"b"
        finally:
            await client.aclose()
