"""The description of the API and the page that shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import msgspec
import pytest

from inhouse.wire import openapi
from inhouse.wire.openapi_operation import Operation
from inhouse.wire.openapi_operations import OPERATIONS

DOCUMENT: dict[str, Any] = json.loads(openapi.render("1.2.3"))
METHODS = [
    (path, method, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def values_of(key: str, node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values_of(key, value)
    elif isinstance(node, list):
        for value in node:
            yield from values_of(key, value)


def test_the_head() -> None:
    """The version of OpenAPI, of the package, and the two ways to send a key."""
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"bearer", "x-api-key"}
    assert {name for way in DOCUMENT["security"] for name in way} == {"bearer", "x-api-key"}


def test_references() -> None:
    """Every reference leads to a component, every component is referred to, and their names are short."""
    mapped = [ref for mapping in values_of("mapping", DOCUMENT) for ref in mapping.values()]
    named = {ref.removeprefix("#/components/schemas/") for ref in [*values_of("$ref", DOCUMENT), *mapped]}
    assert named == set(DOCUMENT["components"]["schemas"])
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in named)


def test_every_operation_is_complete() -> None:
    """Each has a name of its own, a summary and responses; what needs a key says 401; path parameters are declared."""
    names = [operation["operationId"] for _, _, operation in METHODS]
    assert len(set(names)) == len(names) == len(OPERATIONS)
    for path, _, operation in METHODS:
        assert operation["summary"]
        assert "200" in operation["responses"]
        assert all(response["description"] for response in operation["responses"].values())
        assert ("401" in operation["responses"]) == (operation.get("security") != [])
        declared = {given["name"] for given in operation.get("parameters", ()) if given["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
        assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}


def test_refusals_are_in_the_api_s_own_shape() -> None:
    """Anthropic's paths refuse in Anthropic's shape, all others in OpenAI's; 429 and 503 say when to try again."""
    for path, _, operation in METHODS:
        health = path.startswith("/health")
        expected = "ErrorObject" if path.startswith("/v1/messages") else "HealthBody" if health else "ErrorBody"
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"]["application/json"]["schema"]["$ref"].endswith(f"/{expected}")
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.request], ids=lambda one: one.path)
def test_examples(operation: Operation) -> None:
    """Each example is a request that its own struct takes."""
    assert operation.request is not None
    msgspec.json.decode(msgspec.json.encode(operation.example), type=operation.request)


def test_unknown_fields_are_told_to_be_refused() -> None:
    """The document says of each request that it takes no other fields."""
    for operation in OPERATIONS:
        if operation.request is not None:
            schema = DOCUMENT["components"]["schemas"][operation.request.__name__]
            assert schema["additionalProperties"] is False


def page(name: str) -> str:
    return resources.files("inhouse.gateway").joinpath("web", name).read_text("utf-8")


def test_the_page_stays_at_home() -> None:
    """Nothing is loaded from elsewhere, and the page says so to the browser."""
    for name in ("docs.html", "docs.js"):
        assert not re.search(r"(?:https?:)?//[a-z]", page(name))
    assert "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'" in page("docs.html")


def test_the_page_works_under_a_strict_policy() -> None:
    """No script or handler is inline, texts never become HTML, and the key is never stored."""
    html, script = page("docs.html"), page("docs.js")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)
    assert not re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", script)
