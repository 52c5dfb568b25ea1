"""What Prometheus sees."""

from __future__ import annotations

from plain_http import PlainHttp
from prometheus_client.parser import text_string_to_metric_families

FAMILIES = {
    "inhouse_requests": "counter",
    "inhouse_tokens": "counter",
    "inhouse_streams_broken": "counter",
    "inhouse_engine_restarts": "counter",
    "inhouse_time_to_first_token_seconds": "histogram",
    "inhouse_time_per_output_token_seconds": "histogram",
    "inhouse_request_duration_seconds": "histogram",
    "inhouse_queue_wait_seconds": "histogram",
    "inhouse_model_ready": "gauge",
    "inhouse_slots": "gauge",
    "inhouse_requests_in_service": "gauge",
    "inhouse_requests_waiting": "gauge",
    "inhouse_connections": "gauge",
    "inhouse_engine_connections": "gauge",
    "inhouse_tasks": "gauge",
    "inhouse_reservations": "gauge",
    "inhouse_quota_overruns": "counter",
}


def reading(http: PlainHttp, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    text = http.get("/metrics", key=None).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def test_the_families(http: PlainHttp) -> None:
    """Prometheus' own parser reads the page; each family has its type and a sentence."""
    reply = http.get("/metrics", key=None)
    assert reply.headers["content-type"].startswith("text/plain; version=")
    found = {family.name: family for family in text_string_to_metric_families(reply.text)}
    assert FAMILIES.items() <= {name: family.type for name, family in found.items()}.items()
    assert all(family.documentation for family in found.values())


def test_a_request_that_is_answered(http: PlainHttp) -> None:
    """The request, its tokens and its durations are counted once."""
    asked = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "ignore_eos": True}
    series: list[tuple[str, dict[str, str]]] = [
        ("inhouse_requests_total", {"api": "chat", "model": "demo", "status": "200"}),
        ("inhouse_tokens_total", {"model": "demo", "kind": "completion"}),
        ("inhouse_tokens_total", {"model": "demo", "kind": "prompt"}),
        ("inhouse_time_to_first_token_seconds_count", {"model": "demo"}),
        ("inhouse_request_duration_seconds_count", {"model": "demo"}),
        ("inhouse_queue_wait_seconds_count", {"model": "demo"}),
    ]
    before = [reading(http, name, **labels) for name, labels in series]
    usage = http.post("/v1/chat/completions", asked).json["usage"]
    after = [reading(http, name, **labels) for name, labels in series]
    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert grown == [1, usage["completion_tokens"], usage["prompt_tokens"], 1, 1, 1]


def test_a_request_that_is_refused(http: PlainHttp) -> None:
    """It is counted under its status; a model's name that the client made up never becomes a label."""
    before = reading(http, "inhouse_requests_total", api="chat", status="404")
    http.post("/v1/chat/completions", {"model": "made-up-name", "messages": [{"role": "user", "content": "x"}]})
    assert reading(http, "inhouse_requests_total", api="chat", status="404") == before + 1
    assert "made-up-name" not in http.get("/metrics", key=None).text


def test_the_state_of_the_model(http: PlainHttp) -> None:
    """Ready, with four slots, and nothing running or waiting."""
    names = ("inhouse_model_ready", "inhouse_slots", "inhouse_requests_in_service", "inhouse_requests_waiting")
    assert [reading(http, name, model="demo") for name in names] == [1, 4, 0, 0]
