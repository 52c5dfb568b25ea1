"""A gateway whose batches the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from clients import client_at
from serving import Gateway, serving


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("batches")) as gateway:
        yield gateway


@pytest.fixture
def client(running: Gateway) -> openai.OpenAI:
    return client_at(running)
