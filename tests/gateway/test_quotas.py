"""Limits at the real door: they hold under concurrency, tell the truth, and are settled with what was used."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from serving import KEY, Gateway, serving

STACK = """
models:
  demo: {price: {input: 1.0, output: 4.0}}
  small: {source: demo, limits: {requests_per_minute: 3}}
  other: {source: demo}
tenants:
  default: {models: [demo, small], limits: {tokens_per_day: 2000}}
"""
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("quotas"), STACK) as running:
        for _ in range(2):
            running.wait_for(event="replica", state="ready")
        yield running


@pytest.fixture(scope="module")
def client(door: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=door.base_url, api_key=KEY, max_retries=0) as one:
        yield one


def test_a_model_that_the_tenant_may_not_use(client: openai.OpenAI) -> None:
    """403, and the message names the model."""
    with pytest.raises(openai.PermissionDeniedError, match="other"):
        client.chat.completions.create(model="other", messages=ASK)


def refused(client: openai.OpenAI, **request: Any) -> openai.RateLimitError | None:
    try:
        client.chat.completions.create(messages=ASK, **request)
    except openai.RateLimitError as error:
        return error
    return None


def test_requests_in_a_minute(client: openai.OpenAI) -> None:
    """The fourth is refused, however many come at once; its Retry-After is within the minute."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(refused, client, model="small", max_tokens=2) for _ in range(8)]
    refusals = [error for one in asked if (error := one.result()) is not None]
    assert len(refusals) == 5
    for error in refusals:
        assert error.code == "rate_limit_exceeded"
        assert 0 < int(error.response.headers["retry-after"]) <= 60
        assert error.response.headers["x-ratelimit-limit-requests"] == "3"
        assert error.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_quota_of_tokens_under_concurrency(client: openai.OpenAI) -> None:
    """However many clients ask at once, what was counted never passes the quota; then it is refused as used up.

    While others' bounds are held, a refusal is one for the moment (`rate_limit_exceeded`).
    """
    ended = threading.Event()
    give_up_s = time.monotonic() + 60

    def ask() -> int:
        spent = 0
        while not ended.is_set() and time.monotonic() < give_up_s:
            try:
                answer = client.chat.completions.create(
                    model="demo", messages=ASK, max_tokens=60, extra_body={"ignore_eos": True}
                )
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    ended.set()
            else:
                spent += answer.usage.total_tokens if answer.usage else 0
        return spent

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask) for _ in range(16)]
    assert ended.is_set()
    spent = sum(one.result() for one in asked)
    assert 1500 < spent <= 2000, "bounds are settled with what was used, so most of the quota can be spent"


def test_the_use_is_counted_for_the_operator(door: Gateway) -> None:
    """A clean stop writes the last counts: `inhouse usage` has all of it, with its price."""
    door.stop()
    command = [sys.executable, "-m", "inhouse", "usage", "--json", "--state-dir", str(door.state_dir)]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    text = json.dumps(shown)
    assert '"model": "demo"' in text
    assert '"tenant": "default"' in text
