"""`/openapi.json`: the API as an OpenAPI 3.1 document.

It is true because it is made of the structs that decode the requests: a field that is documented is a field that is
taken, and the other way round. The table of operations is in `openapi_operations.py`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from inhouse.wire.openapi_operation import Operation, Shape
from inhouse.wire.openapi_operations import OPERATIONS
from inhouse.wire.responses_request import ITEMS

_REF = "#/components/schemas/{name}"

_ERRORS = {
    400: "The request is wrong: bad JSON, a wrong type, an unknown parameter, or a prompt longer than the context.",
    401: "No key, or one that is not known.",
    403: "The key may not do this.",
    404: "No such thing; of models, the message names those that exist.",
    408: "The request took too long to arrive.",
    409: "What is asked for does not go with the state of the thing, such as a key that is revoked.",
    413: "The body is larger than `gateway.request_bytes_max`.",
    415: "The body is not JSON.",
    429: "The queue is full, or a quota is used up.",
    500: "A fault of the gateway.",
    502: "The engine failed.",
    503: "Nothing can serve this now: no model is ready, the gateway is shutting down, or its state cannot be used.",
    504: "The request waited too long, or the engine took too long.",
}

_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
"""One event of a stream."""

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}


def render(version: str) -> bytes:
    """The document as JSON. It is the same for the life of a process: build it once."""
    return msgspec.json.encode(document(version))


def document(version: str) -> dict[str, Any]:
    """The document as a dict. `version` is that of the package."""
    shapes: dict[Shape, None] = dict.fromkeys(ITEMS)
    for operation in OPERATIONS:
        used = (operation.request, operation.answer, operation.refusal)
        shapes.update({shape: None for shape in used if shape is not None})
    schemas, components = msgspec.json.schema_components(list(shapes), ref_template=_REF)
    refs = dict(zip(shapes, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inhouse",
            "version": version,
            "description": "Your own language models, behind the OpenAI and Anthropic APIs.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"x-api-key": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "As the OpenAI clients send it."},
                "x-api-key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "As the Anthropic clients send it.",
                },
            },
        },
    }


def _operation(operation: Operation, refs: dict[Shape, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {"200": _answer(operation, refs), **_refusals(operation, refs)},
    }
    if operation.request is not None:
        content = {"schema": refs[operation.request], "example": operation.example}
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    if operation.form:
        found["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _form(operation)}}}
    if parameters := _parameters(operation):
        found["parameters"] = parameters
    if operation.needs:
        found["description"] = f"Needs the permission `{operation.needs}`."
    if operation.open:
        found["security"] = []
    return found


def _form(operation: Operation) -> dict[str, Any]:
    fields: dict[str, dict[str, Any]] = {
        name: {"type": "string", "description": meaning} for name, meaning in operation.form.items()
    }
    if "file" in fields:
        fields["file"]["format"] = "binary"
    return {"type": "object", "required": list(fields), "properties": fields}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names] + [
        {"name": name, "in": "query", "required": False, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in operation.query.items()
    ]


def _answer(operation: Operation, refs: dict[Shape, dict[str, Any]]) -> dict[str, Any]:
    plain = {"type": "object"} if operation.media == "application/json" else {"type": "string"}
    content: dict[str, Any] = {operation.media: {"schema": refs[operation.answer] if operation.answer else plain}}
    if operation.streams:
        content["text/event-stream"] = {"schema": {**_EVENT, "description": f"With `stream`: {operation.streams}"}}
    return {"description": operation.answers, "content": content}


def _refusals(operation: Operation, refs: dict[Shape, dict[str, Any]]) -> dict[str, Any]:
    schema = refs[operation.refusal]
    found: dict[str, Any] = {}
    for status in sorted(operation.errors):
        found[str(status)] = {"description": _ERRORS[status], "content": {"application/json": {"schema": schema}}}
        if status in (429, 503):
            found[str(status)]["headers"] = _RETRY_AFTER
    return found


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"{\w+}", "one", operation.path.removeprefix("/v1")).strip("/").replace("/", "_")
    return f"{operation.method}_{words}"
