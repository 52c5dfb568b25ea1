"""The list of models."""

from __future__ import annotations

import openai
import pytest
from plain_http import PlainHttp


def test_the_list(client: openai.OpenAI) -> None:
    """It names what can be asked for, in OpenAI's shape."""
    models = list(client.models.list())
    assert [model.id for model in models] == ["demo"]
    assert models[0].object == "model"
    assert models[0].created > 1_700_000_000
    assert models[0].owned_by


def test_one_model(client: openai.OpenAI) -> None:
    """It is the entry of the list."""
    assert client.models.retrieve("demo") == next(iter(client.models.list()))


def test_what_else_is_known_of_a_model(http: PlainHttp) -> None:
    """Its state, its context in tokens and its slots stand beside OpenAI's own fields."""
    (card,) = http.get("/v1/models").json["data"]
    assert card["state"] == "ready"
    assert card["context"] > 0
    assert card["slots"] == 4


async def test_the_list_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """The same with asyncio."""
    assert [model.id async for model in async_client.models.list()] == ["demo"]


@pytest.mark.parametrize("name", ["dem", "gpt-4o", "acme/some-model"])
def test_a_model_that_does_not_exist(client: openai.OpenAI, name: str) -> None:
    """The error names those that do, also for a name with a slash."""
    with pytest.raises(openai.NotFoundError, match="'demo'") as missing:
        client.models.retrieve(name)
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
