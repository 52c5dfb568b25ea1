"""What gateways tell each other of endpoints that fail."""

from __future__ import annotations

import contextlib
import secrets

from inhouse.config import RedisSpec
from inhouse.store.hints import Hints
from inhouse.store.redis_link import link_of
from inhouse.store.redis_scripts import RedisScripts
from services import Service


def test_what_one_tells_the_others_hear_once(redis: Service) -> None:
    """Not itself, and again only where it is told again."""
    prefix = secrets.token_hex(6)
    with contextlib.ExitStack() as exits:

        def gateway() -> Hints:
            scripts = RedisScripts(link_of(RedisSpec(url=redis.url, timeout=5.0), {}, "store.redis"))
            return exits.enter_context(contextlib.closing(Hints(scripts, prefix=prefix)))

        one, two, three = gateway(), gateway(), gateway()
        one.tell("chat", "http://10.0.0.7:8000|odd")
        assert one.exchange() == []
        for other in (two, three):
            assert other.exchange() == [("chat", "http://10.0.0.7:8000|odd")]
            assert other.exchange() == []
        two.tell("chat", "http://10.0.0.7:8000|odd")
        assert two.exchange() == []
        assert one.exchange() == [("chat", "http://10.0.0.7:8000|odd")]
