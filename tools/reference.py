"""Writes the generated pages, docs/reference/*.md: `python tools/reference.py` (`make docs`).

Each page is made of what the program itself runs on: commands, settings, error classes, metrics, request structs. A
test fails when a page is not what this prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import reference_engines

from inhouse import errors
from inhouse.cli import reference as cli_reference
from inhouse.config import reference as config_reference
from inhouse.core import Endpoint, Usage
from inhouse.telemetry.audit import AuditReading
from inhouse.telemetry.collectors import LaneReading
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.process import ProcessGauges, ProcessReading
from inhouse.telemetry.queued import Queues
from inhouse.telemetry.residence import Budgets, Reading, ResidenceGauges
from inhouse.telemetry.stores import StoreGauges, StoreReading
from inhouse.wire import openapi
from inhouse.wire.backlog import QueueBacklog
from inhouse.wire.messages_errors import error_object
from inhouse.wire.openapi_operation import Operation
from inhouse.wire.openapi_operations import OPERATIONS

FOLDER = Path(__file__).parents[1] / "docs" / "reference"

ERRORS_HEAD = """\
# Errors of the API

Every refusal is an object in the shape of the API that was called. This page is generated from `src/inhouse/errors.py`.

OpenAI's shape, for every path but `/v1/messages`:

```json
{"error": {"message": "…", "type": "invalid_request_error", "param": "temperature", "code": "invalid_value"}}
```

Anthropic's shape, for `/v1/messages` and `/v1/messages/count_tokens`:

```json
{"type": "error", "error": {"type": "invalid_request_error", "message": "…"}, "request_id": "…"}
```

`message` names the thing, the limit and the way out; programs should look at `code`. `Retry-After`, in seconds, comes
with 429 and 503, and with 504 where the queue was too slow. A stream that has begun keeps its status 200 and ends with
an error event in place of its last one.

| status | `code` | `type` | `type` of Anthropic | caused by | when |
|---|---|---|---|---|---|
"""

WHEN: dict[type[errors.ApiError], str] = {
    errors.BadRequest: "a wrong type, a value out of range, or something that cannot be done here; `param` says where",
    errors.InvalidJson: "the body is not JSON",
    errors.UnknownParameter: "a strange field, where `requests.unknown_fields` is `refuse` or a needed one is missing",
    errors.RequestTooComplex: "deeper, or more of something, than `requests` in the configuration takes",
    errors.Unable: "tools, a JSON schema, log probabilities, embeddings or ranking, asked of a model that has none",
    errors.AnswerTooLong: "a longer answer than the model's `answer_tokens_max`, where its policy is `refuse`",
    errors.ContextTooLong: "the prompt has more tokens than the model's context; the message has both numbers",
    errors.Unauthorized: "no key, or one that is unknown, revoked or expired",
    errors.Forbidden: "a permission that no role of the caller has, or a model that key or tenant may not use",
    errors.NotFound: "a path that does not exist",
    errors.ModelNotFound: "a model that does not exist; the message names those that do",
    errors.MethodNotAllowed: "a path that takes another method; `Allow` names it",
    errors.RequestTimeout: "the body took longer than `gateway.body_timeout`",
    errors.Conflict: "a key that is revoked, expired or declared in `inhouse.yaml`, or a route that is switched or has "
    "no canary, cannot be changed in this way",
    errors.ReaderTooSlow: "others share the answer and are `cache.entry_bytes_max` ahead; ask again",
    errors.BodyTooLarge: "the body is larger than `gateway.request_bytes_max`",
    errors.UnsupportedMedia: "`Content-Type` is not JSON",
    errors.HeadersTooLarge: "the head is larger than `gateway.headers_bytes_max`",
    errors.TooManyKept: "as many answers are kept for later as `kept.answers_max` and `kept.bytes_max` allow",
    errors.QueueFull: "the model has `queue_requests_max` requests waiting",
    errors.RateLimited: "a limit per minute, or of requests at once; `x-ratelimit-…` headers say where it stands",
    errors.QuotaExceeded: "a quota of a day or a month, in tokens or money, is used up",
    errors.RequestExceedsQuota: "the request may use more than a quota ever allows; fewer `max_tokens` help",
    errors.InternalError: "a fault of the gateway; its log says where, under the request id",
    errors.EngineError: "the engine failed or broke off; it is started again by itself",
    errors.Unavailable: "no replica of the model can take requests, or too many connections are open",
    errors.ModelLoading: "the model still loads; `Prefer: wait=60` waits for it",
    errors.ModelFailed: "the model's engine does not start or does not stay; it is tried again by itself",
    errors.ModelDoesNotFit: "the model needs more than `memory.budget`, or `memory.gpu_budget`, ever leaves it",
    errors.MemoryFull: "the model is asleep, and others that are in use have the memory that it needs",
    errors.StateUnavailable: "the state folder, Redis or PostgreSQL cannot be used; the gateway's log says why",
    errors.AnswerLost: "the gateway that made an answer which is kept ended while it did; ask again",
    errors.AuditUnavailable: "the audit cannot be written, and `audit.on_failure` is `refuse`",
    errors.ShuttingDown: "the gateway is about to stop",
    errors.WaitedTooLong: "no slot became free within `queue_wait_max`, or what the client allows for waiting",
    errors.FirstTokenTimeout: "the engine had the request and sent no token for `first_token_timeout`",
    errors.TokenGapTimeout: "no token followed the last one for `token_gap_timeout`",
    errors.TotalTimeout: "the answer was not finished `total_timeout` after the request had arrived",
    errors.EngineTimeout: "the engine was silent for `idle_timeout`, or did not accept a connection",
}

METRICS_HEAD = """\
# Metrics

What `GET /metrics` shows, in the text format of Prometheus. It needs no key and holds no content: labels are names of
models, APIs and status codes. On Linux there are the usual `process_…` series as well. This page is generated from
`src/inhouse/telemetry/`.

| metric | type | labels | meaning |
|---|---|---|---|
"""

ENDPOINTS_HEAD = """\
# Endpoints and their parameters

Every path of the API and every field that it takes; a path that is not here is refused, a field passed over. Some
fields are taken only for the sake of clients and change nothing, some are refused when they ask for something:
[the API](../api.md) says which. The same as a document: `GET /openapi.json`, and as a page to try it on: `GET /docs`.
This page is generated from the structs in `src/inhouse/wire/` that decode the requests.

| endpoint | what | key | streams |
|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """The text of each page, by the name of its file."""
    return {
        "cli.md": cli_reference.page(),
        "config.md": config_reference.page(),
        "endpoints.md": _endpoints(),
        "engines.md": reference_engines.page(),
        "errors.md": ERRORS_HEAD + "".join(_error_rows()),
        "metrics.md": METRICS_HEAD + "".join(_metric_rows()),
    }


def _error_rows() -> Iterator[str]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ApiError)]
    kinds.remove(errors.ApiError)
    for kind in sorted(kinds, key=lambda kind: kind.status):
        anthropic = error_object(_example(kind)).error.type
        cells = (str(kind.status), f"`{kind.code}`", f"`{kind.type}`", f"`{anthropic}`", kind.origin, WHEN[kind])
        yield f"| {' | '.join(cells)} |\n"


def _example(kind: type[errors.ApiError]) -> errors.ApiError:
    if kind is errors.ContextTooLong:
        return errors.ContextTooLong(2, 1)
    if kind is errors.AnswerTooLong:
        return errors.AnswerTooLong(2, 1, "model", param="max_tokens")
    if kind is errors.MethodNotAllowed:
        return errors.MethodNotAllowed("", allow="GET")
    return kind("")


_ENDPOINT = Endpoint("chat-0", slots=1, running=0, waiting=0, kv_used=0.0, prefix_hits=0.0, ttft_s=0.1, tpot_s=0.1)


def _metric_rows() -> Iterator[str]:
    """Each metric is used once, so that it shows its labels."""
    metrics = Metrics(
        lambda: [LaneReading("chat", ready=True, slots=1, serving=0, waiting=0, cache_entries=0, cache_bytes=0)]
    )
    metrics.registry.register(StoreGauges(lambda: StoreReading({"quotas": ""}, 0, 0)))
    metrics.registry.register(ProcessGauges(lambda: ProcessReading(1, 1, 1, 1, 1, {"chat": 1})))
    metrics.registry.register(
        ResidenceGauges(lambda: Budgets(1, 1), lambda: [Reading("chat", False, 1, 1, 1, 1, 0, 0)])
    )
    entry = Entry("id", "chat", 0.0)
    entry.model, entry.status, entry.first_token_s, entry.ended_s = "chat", 200, 1.0, 2.0
    entry.usage, entry.cache = Usage(3, 2, 1), "hit"
    metrics.book(entry)
    broken = Entry("id", "chat", 0.0)
    broken.model, broken.status, broken.failed, broken.retries = "chat", 200, True, 1
    metrics.book(broken)
    metrics.restarted("chat")
    metrics.watch_endpoints(lambda: [("chat", _ENDPOINT)])
    metrics.registry.register(Queues(lambda: [("chat", msgspec.structs.asdict(QueueBacklog()), True)]))
    metrics.watch_audit(lambda: AuditReading(written=1, lost=0, pending=0, failing=False))
    metrics.flush()
    for family in metrics.registry.collect():
        labels = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |\n"


def _endpoints() -> str:
    schemas: dict[str, Any] = openapi.document("")["components"]["schemas"]
    rows = "".join(_endpoint_row(operation) for operation in OPERATIONS)
    takers = [operation for operation in OPERATIONS if operation.request is not None]
    return ENDPOINTS_HEAD + rows + "".join(_parameters(operation, schemas) for operation in takers)


def _endpoint_row(operation: Operation) -> str:
    cells = (
        f"`{operation.method.upper()} {operation.path}`",
        operation.summary,
        "no" if operation.open else "yes",
        "yes" if operation.streams else "no",
    )
    return f"| {' | '.join(cells)} |\n"


def _parameters(operation: Operation, schemas: dict[str, Any]) -> str:
    name = operation.request.__name__ if operation.request else ""
    schema = schemas[name]
    required = schema.get("required", [])
    rows = [
        f"| `{field}` | {_form(about)} | {'required' if field in required else _default(about)} |\n"
        for field, about in schema["properties"].items()
    ]
    return (
        f"\n## `{operation.method.upper()} {operation.path}`\n\n{operation.summary}.\n\n"
        "| parameter | type and limits | default |\n|---|---|---|\n" + "".join(rows)
    )


def _form(schema: dict[str, Any]) -> str:
    """A JSON schema in words; an object is named as in /openapi.json."""
    if "anyOf" in schema:
        forms = [_form(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(forms)) or "anything"
    if "$ref" in schema:
        return f"object `{schema['$ref'].rpartition('/')[2]}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list of ({_form(schema.get('items', {}))}){most}"
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "object": "object",
        None: "anything",
    }[kind]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{words} from {low:g} to {high:g}" if high < 1e6 else f"{words}, {low:g} or more"
    return f"{words}, {low:g} or more" if low is not None else words


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, "") else f"`{str(default).lower()}`"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
