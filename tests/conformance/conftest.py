"""Clients of the shared gateway: the official ones, and one that speaks plain HTTP."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anthropic
import openai
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from plain_http import PlainHttp

from serving import KEY, Gateway

TIMEOUT_S = 30.0


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """The official client. It never tries twice: a failure is to be seen."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client for asyncio."""
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, pointed at the gateway. It sends its key as `x-api-key`."""
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def http(gateway: Gateway) -> PlainHttp:
    """Plain HTTP, for what the official clients have no words for or would not send."""
    return PlainHttp(gateway.address, KEY)
