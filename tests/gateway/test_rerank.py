"""`/v1/rerank`: a cross encoder of random weights in llama.cpp, beside what torch makes of it; and engines that answer
in other shapes."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest

import bert_gguf
from fake_engine import fake_engine
from serving import KEY, Gateway, started

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *SPECIAL,
    *("what", "is", "a", "gateway", "it", "rains", "lets", "requests", "in", "the", "cat", "sat", "on", "mat"),
    *("queue", "fair", "keys"),
)
QUERY = "what is a gateway"
DOCUMENTS = ["it rains", "a gateway lets requests in", "the cat sat on the mat", "keys", "fair queue"]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[str, str], float]]:
    """The model's file, and what the model itself says of a query and a document.

    llama.cpp puts no [SEP] behind the document, nor does it tell the two apart by token types.
    """
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("ranker")
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=128, num_labels=1, initializer_range=0.5, **sizes
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")

    def score(query: str, document: str) -> float:
        tokens = ["[CLS]", *query.split(), "[SEP]", *document.split()]
        with torch.no_grad():
            return float(model(torch.tensor([[WORDS.index(token) for token in tokens]])).logits[0, 0])

    return bert_gguf.convert(folder, folder / "ranker.gguf", gguf.PoolingType.RANK, exact=True), score


@pytest.fixture(scope="module")
def gateway(ranker: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The real model, one that only chats, and two engines elsewhere that write scores in their own ways."""
    with fake_engine(speaks="vllm") as vllm, fake_engine(speaks="sglang") as sglang:
        models = {
            "ranker": {"source": str(ranker[0]), "context": 256, "slots": 2},
            "demo": {"source": "demo"},
            "vllm": {"endpoints": [vllm.url], "engine": "vllm"},
            "sglang": {"endpoints": [sglang.url], "engine": "sglang", "task": "rerank"},
        }
        running = started(tmp_path_factory.mktemp("rerank"), json.dumps({"models": models}))
        try:
            for _ in models:
                running.wait_for(event="replica", state="ready")
            yield running
        finally:
            running.stop()


def rank(gateway: Gateway, **fields: Any) -> tuple[int, Any]:
    body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS, **fields}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(gateway.url + "/v1/rerank", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


def test_the_scores_are_the_model_s(gateway: Gateway, ranker: tuple[Path, Callable[[str, str], float]]) -> None:
    """Best first, each as the model gives it to that document alone."""
    status, answer = rank(gateway)
    assert status == 200
    found = {one["index"]: one["relevance_score"] for one in answer["results"]}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    for index, document in enumerate(DOCUMENTS):
        assert found[index] == pytest.approx(ranker[1](QUERY, document), abs=0.02), document
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(DOCUMENTS)


def test_the_best_of_them_with_their_texts(gateway: Gateway) -> None:
    """`top_n` of them; a document may come as an object with its text, and comes back as one."""
    _, whole = rank(gateway)
    _, best = rank(gateway, documents=[{"text": text} for text in DOCUMENTS], top_n=2, return_documents=True)
    assert [one["index"] for one in best["results"]] == [one["index"] for one in whole["results"][:2]]
    assert [one["document"]["text"] for one in best["results"]] == [DOCUMENTS[one["index"]] for one in best["results"]]
    assert len(rank(gateway, top_n=99)[1]["results"]) == len(DOCUMENTS)


@pytest.mark.parametrize("model", ["vllm", "sglang"])
def test_engines_that_write_scores_otherwise(gateway: Gateway, model: str) -> None:
    """The client sees one shape. (The stand-ins count the words that both have.)"""
    status, answer = rank(gateway, model=model, top_n=1)
    assert (status, answer["model"]) == (200, model)
    assert answer["results"] == [{"index": 1, "relevance_score": 0.5}]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "empty text"),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"documents": ["a"] * 1025}, "at most 1024"),
        ({"model": "demo"}, "cannot rank documents"),
    ],
)
def test_what_cannot_be_ranked(gateway: Gateway, fields: dict[str, Any], told: str) -> None:
    """It is refused with what is wrong."""
    status, error = rank(gateway, **fields)
    assert status == 400
    assert told in error["message"]


def test_it_is_booked_as_any_request(gateway: Gateway) -> None:
    """In the audit, with its tokens."""
    _, answer = rank(gateway)
    deadline_s = time.monotonic() + 10
    while True:
        lines = [
            line
            for file in (gateway.state_dir / "audit").glob("*")
            for line in file.read_text().splitlines()
            if line[:1] == "{"
        ]
        booked = [one for one in map(json.loads, lines) if one.get("api") == "rerank" and one.get("status") == 200]
        if any(one["prompt_tokens"] == answer["usage"]["prompt_tokens"] for one in booked):
            break
        assert time.monotonic() < deadline_s, lines
        time.sleep(0.02)
    assert {one["model"] for one in booked} <= {"ranker", "vllm", "sglang"}
