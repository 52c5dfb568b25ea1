"""Routes at the real door: names, sizes, tenants, fallbacks, closed doors, and a canary that grows or goes back."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from clients import client_at
from serving import Gateway, serving

STACK = """
models:
  chat: {{source: demo, slots: 1, queue_requests_max: 0, engine_binary: {fake}, engine_args: [--tokens-per-s, '50']}}
  small: {{source: demo, engine_binary: {fake}}}
  cloud: {{source: demo, engine_binary: {fake}, external: true}}
  good: {{source: demo, engine_binary: {fake}}}
  bad: {{source: demo, engine_binary: {fake}, engine_args: [--error-rate, '1']}}
  twins: {{source: demo, replicas: 3, engine_binary: {fake}, routing: {{policy: session}}}}
tenants:
  open: {{data_may_leave: true}}
routes:
  chat: {{aliases: [gpt-4o], tenants: [acme=small], fallback: [cloud, small]}}
  sized: {{models: [chat=1], prompt_tokens: [200=small]}}
  rising:
    models: [small=1]
    canary:
      {{model: good, weight: 50%, step: 50%, every: 1 s, guard: {{min_requests: 5, ttft_p95: 10000%, tpot_p95: 9999%}}}}
  failing:
    models: [small=1]
    canary: {{model: bad, weight: 50%, every: 100 ms, guard: {{min_requests: 5}}}}
"""
ASK = [{"role": "user", "content": "hello"}]
REQUESTS_MAX = 400


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("routes")
    fake = folder / "fake"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -m inhouse fake-engine "$@"\n')
    fake.chmod(0o755)
    with serving(folder, STACK.format(fake=fake)) as running:
        for _ in range(7):
            running.wait_for(event="replica", state="ready")
        yield running


def key(door: Gateway, *args: str) -> str:
    command = [sys.executable, "-m", "inhouse", "keys", "create", "--state-dir", str(door.state_dir), "--json", *args]
    return str(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["key"])


def story(caller: openai.OpenAI, model: str, text: str = "hello", **headers: str) -> dict[str, Any]:
    """How a request fared, as the gateway tells it."""
    messages = [{"role": "user", "content": text}]
    raw = caller.chat.completions.with_raw_response.create(
        model=model, messages=messages, max_tokens=4, extra_headers=headers
    )
    request_id = raw.headers["x-request-id"]
    explained = urllib.request.Request(
        f"{str(caller.base_url).removesuffix('/v1/')}/admin/requests/{request_id}",
        headers={"authorization": f"Bearer {caller.api_key}"},
    )
    with urllib.request.urlopen(explained, timeout=10) as response:
        told: dict[str, Any] = json.load(response)["requests"][0]
    return told


def who(caller: openai.OpenAI, model: str, text: str = "hello", **headers: str) -> str:
    """The model that answered."""
    return str(story(caller, model, text, **headers)["model"])


def metric(door: Gateway, name: str) -> float:
    with urllib.request.urlopen(door.url + "/metrics", timeout=10) as response:
        (line,) = [line for line in response.read().decode().splitlines() if line.startswith(name)]
    return float(line.rsplit(" ", 1)[1])


def test_an_alias(door: Gateway) -> None:
    """It leads where the route leads."""
    with client_at(door) as caller:
        assert who(caller, "gpt-4o") == "chat"
        told = story(caller, "gpt-4o")["steps"][0]
    assert (told["what"], told["route"], told["model"]) == ("routed", "chat", "chat")
    assert (told["behind"], told["closed"]) == (["small"], ["cloud"])


def test_short_and_long_prompts(door: Gateway) -> None:
    """A short one goes to the small model, a long one to the other."""
    with client_at(door) as caller:
        assert who(caller, "sized") == "small"
        assert who(caller, "sized", "hello there " * 300) == "chat"


def test_a_tenant_with_a_model_of_its_own(door: Gateway) -> None:
    """Its requests go there, under the same name."""
    with client_at(door, key(door, "--tenant", "acme")) as caller:
        assert who(caller, "chat") == "small"


def test_a_full_model(door: Gateway) -> None:
    """The next of the chain that the tenant may use answers: the external one only where its data may leave."""
    with client_at(door) as caller, client_at(door, key(door, "--tenant", "open")) as other:
        long = caller.chat.completions.create(model="chat", messages=ASK, max_tokens=200, stream=True)
        next(iter(long))
        try:
            assert who(caller, "chat") == "small"
            assert who(other, "chat") == "cloud"
        finally:
            long.close()


def test_an_external_model(door: Gateway) -> None:
    """It is closed to a tenant whose data may not leave, whatever its name is: 403 with the way out."""
    with client_at(door) as caller, pytest.raises(openai.PermissionDeniedError, match="may not leave"):
        who(caller, "cloud")
    with client_at(door, key(door, "--tenant", "open")) as caller:
        assert who(caller, "cloud") == "cloud"


def test_an_override(door: Gateway) -> None:
    """A role that may names the model past the route; another one is told 403; a closed door stays closed."""
    with client_at(door) as caller, pytest.raises(openai.PermissionDeniedError, match="the permission"):
        who(caller, "chat", **{"x-inhouse-model": "small"})
    with client_at(door, key(door, "--role", "operator")) as caller:
        assert who(caller, "chat", **{"x-inhouse-model": "good"}) == "good"
        with pytest.raises(openai.PermissionDeniedError, match="may not leave"):
            who(caller, "chat", **{"x-inhouse-model": "cloud"})


def test_a_session(door: Gateway) -> None:
    """Its requests go to one replica, those of other sessions to others too."""
    homes: dict[str, set[str]] = {}
    with client_at(door) as caller:
        for number in range(24):
            session = f"s{number % 8}"
            told = story(caller, "twins", **{"x-inhouse-session": session})
            (picked,) = [step for step in told["steps"] if step["what"] == "picked"]
            assert len(picked["candidates"]) == 3
            assert picked["policy"] == "session"
            homes.setdefault(session, set()).update(step["endpoint"] for step in told["steps"] if "endpoint" in step)
    assert [len(replicas) for replicas in homes.values()] == [1] * 8
    assert len(set.union(*homes.values())) > 1


def test_a_name_that_leads_nowhere(door: Gateway) -> None:
    """404, as without routes; the names of routes and aliases are among those that exist."""
    with client_at(door) as caller, pytest.raises(openai.NotFoundError, match=r"does not exist.*'rising'"):
        who(caller, "gone")


def test_a_good_canary(door: Gateway) -> None:
    """Its weight grows to all of the traffic while requests come, and the metric and the log say so."""
    with client_at(door) as caller:
        for _ in range(REQUESTS_MAX):
            caller.chat.completions.create(model="rising", messages=ASK, max_tokens=2)
            if metric(door, 'inhouse_canary_weight{model="good"') == 1.0:
                break
        assert metric(door, 'inhouse_canary_weight{model="good"') == 1.0
        assert who(caller, "rising") == "good"


def test_a_bad_canary(door: Gateway) -> None:
    """It is taken back by itself: a few requests fail, then none does; metric and log say why."""
    refused = 0
    with client_at(door) as caller:
        for _ in range(REQUESTS_MAX):
            try:
                caller.chat.completions.create(model="failing", messages=ASK, max_tokens=2)
            except openai.InternalServerError:
                refused += 1
            if metric(door, 'inhouse_canary_weight{model="bad"') == 0.0:
                break
        assert metric(door, 'inhouse_canary_weight{model="bad"') == 0.0
        assert metric(door, 'inhouse_canary_rollbacks_total{route="failing"') == 1.0
        assert refused
        assert {who(caller, "failing") for _ in range(10)} == {"small"}


@pytest.mark.parametrize("path", ["/tokenize", "/v1/messages/count_tokens"])
def test_tokens_of_a_name(door: Gateway, path: str) -> None:
    """They are counted for an alias too, by the first model that it leads to; not for a model that is closed."""

    def status(model: str) -> int:
        body = {"model": model, "content": "hello"} if path == "/tokenize" else {"model": model, "messages": ASK}
        headers = {"authorization": f"Bearer {key(door)}", "content-type": "application/json"}
        request = urllib.request.Request(door.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert [status(model) for model in ("gpt-4o", "chat", "cloud", "gone")] == [200, 200, 403, 404]


def test_a_name_in_the_list(door: Gateway) -> None:
    """Routes and aliases are listed beside the models: a client finds what it may send."""
    with client_at(door) as caller:
        assert {"chat", "small", "sized", "gpt-4o"} <= {model.id for model in caller.models.list()}
        assert caller.models.retrieve("gpt-4o").id == "gpt-4o"
