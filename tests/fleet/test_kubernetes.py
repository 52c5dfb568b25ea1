"""Pods behind a Service: they join, leave and drain as the API server tells, whatever becomes of the watch itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kube_api import TOKEN, KubeApi
from rawhttp import Client, ask, post, until

from fake_engine import FakeEngine
from fleet import PROBE, Fakes, Start, chat, seen
from inhouse.engines.slices import Slices, WatchExpired, WatchRefused
from serving import Gateway


@pytest.fixture
def api() -> Iterator[KubeApi]:
    made = KubeApi()
    yield made
    made.close()


def stack(api: KubeApi, folder: Path, port: str = "http") -> str:
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    return f"""
models:
  demo: {{endpoints: ["k8s://prod/engines:{port}"], engine: vllm, slots: 4, probe: {PROBE}}}
kubernetes: {{api: "{api.url}", token_file: "{token}"}}
"""


def port_of(engine: FakeEngine) -> int:
    return int(engine.url.rsplit(":", 1)[1])


def endpoints(gateway: Gateway) -> int:
    found: int = gateway.get("/v1/models")["data"][0]["endpoints"]
    return found


def test_pods_come_and_go(fakes: Fakes, start: Start, api: KubeApi, tmp_path: Path) -> None:
    """A new slice is used, a deleted one is not, and what is not ready is left alone."""
    one, two = fakes(2)
    api.put("a", port_of(one), {"127.0.0.1": True, "127.0.0.2": False})
    gateway = start(stack(api, tmp_path), ready=1)
    assert endpoints(gateway) == 1
    assert ask(gateway, post(chat())).status == 200
    api.put("b", port_of(two), {"127.0.0.1": None})
    gateway.wait_for(event="replica", state="ready")
    assert endpoints(gateway) == 2
    api.remove("a")
    until(lambda: endpoints(gateway) == 1, "it has left")
    before = seen(two)
    assert ask(gateway, post(chat())).status == 200
    assert seen(two) == before + 1


def test_a_pod_that_terminates_finishes_its_streams(fakes: Fakes, start: Start, api: KubeApi, tmp_path: Path) -> None:
    """It takes nothing new, and leaves when its last stream has ended as it should."""
    one, two = fakes(2, tokens_per_s=20)
    api.put("a", port_of(one), {"127.0.0.1": True})
    gateway = start(stack(api, tmp_path), ready=1)
    with Client(gateway) as client:
        client.send(post(chat(stream=True, max_tokens=30)))
        client.read_until(b"data: ")
        api.put("b", port_of(two), {"127.0.0.1": True})
        gateway.wait_for(event="replica", state="ready")
        api.put("a", port_of(one), {"127.0.0.1": False})
        until(lambda: ask(gateway, post(chat("x", max_tokens=1))).status == 200, "the other one serves")
        assert seen(one) == 1
        assert client.answer_body().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    until(lambda: endpoints(gateway) == 1, "it has left")


def test_a_watch_that_breaks_off_or_is_too_old(fakes: Fakes, start: Start, api: KubeApi, tmp_path: Path) -> None:
    """It goes on from the last version, bookmarks included; where that is too old the slices are listed again."""
    (one,) = fakes(1)
    gateway = start(stack(api, tmp_path), ready=0)
    until(lambda: any("watch=1" in target for target in api.asked), "it watches")
    api.bookmark()
    api.cut()
    until(lambda: any("resourceVersion=101" in target for target in api.asked), "it goes on from the bookmark")
    api.forget()
    until(lambda: len([target for target in api.asked if "watch" not in target]) == 2, "it lists again")
    api.put("a", port_of(one), {"127.0.0.1": True})
    gateway.wait_for(event="replica", state="ready")
    api.cut()
    assert ask(gateway, post(chat())).status == 200


def test_an_api_server_that_refuses(fakes: Fakes, start: Start, api: KubeApi, tmp_path: Path) -> None:
    """The gateway runs on with what it knew, and goes on when it is let in again."""
    one, two = fakes(2)
    api.put("a", port_of(one), {"127.0.0.1": True})
    gateway = start(stack(api, tmp_path, port=str(port_of(one))), ready=1)
    api.denied = True
    api.cut()
    seen = len(api.asked)
    until(lambda: len(api.asked) > seen, "it asks again")
    assert ask(gateway, post(chat())).status == 200
    api.denied = False
    api.put("b", port_of(two), {"127.0.0.2": True})
    gateway.wait_for(event="replica", state="unreachable")


def test_lines_of_a_watch() -> None:
    """Events change what is known, bookmarks move the version only, an old version asks for a new list."""
    slices = Slices("http")
    slices.replace(b'{"metadata":{"resourceVersion":"5"},"items":null}')
    assert (slices.ready(), slices.version) == ({}, "5")
    body = {
        "metadata": {"name": "a", "resourceVersion": "6"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.9"], "conditions": {}}, {"addresses": ["10.0.0.2"]}],
        "ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": 8000}],
    }
    assert slices.apply(json.dumps({"type": "ADDED", "object": body}).encode())
    assert list(slices.ready()) == [("10.0.0.1", 8000), ("10.0.0.2", 8000)]
    assert not slices.apply(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}')
    assert slices.version == "9"
    with pytest.raises(WatchExpired):
        slices.apply(b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}')
    with pytest.raises(WatchRefused, match="500 InternalError"):
        slices.apply(b'{"type":"ERROR","object":{"code":500,"reason":"InternalError"}}')
    assert slices.apply(b'{"type":"DELETED","object":{"metadata":{"name":"a"}}}')
    assert slices.ready() == {}


def listing(*slices: tuple[str, dict[str, bool]]) -> bytes:
    """A list of slices: family, and for each address whether it is ready."""
    items = [
        {
            "metadata": {"name": f"{number}"},
            "addressType": family,
            "endpoints": [{"addresses": [host], "conditions": {"ready": ready}} for host, ready in hosts.items()],
            "ports": [{"name": "http", "port": 8000}],
        }
        for number, (family, hosts) in enumerate(slices)
    ]
    return json.dumps({"metadata": {"resourceVersion": "5"}, "items": items}).encode()


@pytest.mark.parametrize(
    ("slices", "ready"),
    [
        ([("IPv6", {"fd00::1": True}), ("IPv4", {"10.0.0.1": True})], ["10.0.0.1"]),
        ([("IPv6", {"fd00::1": True}), ("IPv4", {}), ("IPv4", {"10.0.0.1": True})], ["10.0.0.1"]),
        ([("IPv6", {"fd00::1": True}), ("IPv4", {})], ["fd00::1"]),
        ([("IPv6", {"fd00::1": True, "fd00::2": True})], ["fd00::1", "fd00::2"]),
        ([("IPv6", {"fd00::1": True}), ("IPv4", {"10.0.0.1": False})], []),
        ([("FQDN", {"pod.example": True})], []),
    ],
    ids=["both", "one slice is empty", "the family is empty", "IPv6 only", "not ready", "names"],
)
def test_one_family_counts(slices: list[tuple[str, dict[str, bool]]], ready: list[str]) -> None:
    """IPv4 where any endpoint has it, ready or not; else IPv6."""
    found = Slices("http")
    found.replace(listing(*slices))
    assert list(found.ready()) == [(host, 8000) for host in ready]


def test_a_pod_of_two_families(fakes: Fakes, start: Start, api: KubeApi, tmp_path: Path) -> None:
    """It is one endpoint, although it stands in two slices, and stays one when its other slice changes."""
    (one,) = fakes(1)
    api.put("six", port_of(one), {"::1": False}, family="IPv6")
    api.put("four", port_of(one), {"127.0.0.1": True})
    gateway = start(stack(api, tmp_path), ready=1)
    api.put("six", port_of(one), {"::1": True}, family="IPv6")
    api.put("more", port_of(one), {"127.0.0.2": True})
    until(lambda: endpoints(gateway) == 2, "it has heard of both changes")
