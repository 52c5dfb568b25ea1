"""The description of the API is true."""

from __future__ import annotations

from typing import Any

import pytest
from plain_http import PlainHttp

from inhouse.gateway.apis import APIS
from inhouse.tenancy.roles import ROLES
from inhouse.wire.openapi_operations import OPERATIONS

ID = "of-the-openapi-tests"
OWN = [(operation.method.upper(), operation.path) for operation in OPERATIONS]
BEYOND = [
    (operation.method.upper(), operation.path)
    for operation in OPERATIONS
    if operation.needs and operation.needs not in ROLES["developer"]
]
"""What the suite's key, a developer's, may not do."""
FOR_DEVELOPERS = [place for place in OWN if place not in BEYOND]


@pytest.fixture(scope="module")
def document(http: PlainHttp) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/openapi.json", key=None).json
    http.post("/generate", {"text": "hello", "max_tokens": 2}, headers={"x-request-id": ID})
    return found


def filled(path: str, http: PlainHttp | None = None) -> str:
    """The path with names of what there is; files and batches are made for it, where there is a way to."""
    name = f"resp_{ID}" if path.startswith("/v1/responses/") else ID
    if http is not None and path.startswith("/v1/files/"):
        name = uploaded(http)
    if http is not None and path.startswith("/v1/responses/"):
        name = http.post("/v1/responses", {"model": "demo", "input": "a", "background": True}).json["id"]
    if http is not None and path.startswith("/v1/batches/"):
        asked = {"input_file_id": uploaded(http), "endpoint": "/v1/completions", "completion_window": "24h"}
        name = http.post("/v1/batches", asked).json["id"]
    return path.replace("{model}", "demo").replace("{id}", name)


def form() -> tuple[bytes, dict[str, str]]:
    """A form with a file, and the header that it needs."""
    row = b'{"custom_id": "a", "url": "/v1/completions", "body": {"model": "demo", "prompt": "a", "max_tokens": 1}}'
    parts = [b'name="purpose"\r\n\r\nbatch', b'name="file"; filename="a"\r\n\r\n' + row]
    body = b"".join(b"--edge\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--edge--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=edge"}


def uploaded(http: PlainHttp) -> str:
    body, headers = form()
    found: str = http.ask("POST", "/v1/files", body, headers=headers).json["id"]
    return found


def test_what_the_document_lists(document: dict[str, Any]) -> None:
    """OpenAPI 3.1, with every endpoint that makes an engine work, and with what the tests below walk through."""
    assert document["openapi"].startswith("3.1")
    assert {path.decode() for path in APIS} <= set(document["paths"])
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == set(OWN)


@pytest.mark.parametrize(("method", "path"), FOR_DEVELOPERS)
@pytest.mark.usefixtures("document")
def test_a_path_of_the_document(http: PlainHttp, method: str, path: str) -> None:
    """It is there: its answer is anything but 404 or 405."""
    reply = http.ask(method, filled(path, http), b"{}" if method == "POST" else None)
    # what is no form is 415; a batch of one line may be over before it is cancelled
    assert reply.status in ((200,) if method == "GET" else (200, 400, 409, 415))


@pytest.mark.parametrize(("method", "path"), FOR_DEVELOPERS)
def test_the_example_of_a_path(http: PlainHttp, document: dict[str, Any], method: str, path: str) -> None:
    """What the document shows as an example is answered."""
    operation = document["paths"][path][method.lower()]
    content = operation.get("requestBody", {"content": {}})["content"]
    body = content["application/json"]["example"] if "application/json" in content else None
    headers: dict[str, str] = {}
    if "multipart/form-data" in content:
        body, headers = form()
    if path == "/v1/batches" and body is not None:
        body = body | {"input_file_id": uploaded(http)}
    reply = http.ask(method, filled(path, http), body, headers=headers)
    if path.endswith("/cancel"):
        assert reply.status in (200, 409)
    elif path == "/v1/rerank":  # the demo model was not made for it
        assert (reply.status, reply.json["error"]["code"]) == (400, "unsupported_by_model")
    else:
        assert reply.status == 200


@pytest.mark.parametrize(("method", "path"), BEYOND)
def test_a_path_that_needs_more_than_a_developer_may(http: PlainHttp, method: str, path: str) -> None:
    """It is there, and closed; the document names the permission."""
    reply = http.ask(method, filled(path), b"{}" if method == "POST" else None)
    assert (reply.status, reply.json["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(("method", "path"), OWN)
def test_a_path_without_a_key(http: PlainHttp, document: dict[str, Any], method: str, path: str) -> None:
    """It is open where the document says so, and closed everywhere else."""
    security = document["paths"][path][method.lower()].get("security", document["security"])
    reply = http.ask(method, filled(path), b"{}" if method == "POST" else None, key=None)
    assert reply.status == (401 if security else 200)


def test_the_references_of_the_document(document: dict[str, Any]) -> None:
    """Each leads somewhere."""
    schemas = document["components"]["schemas"]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/components/schemas/") in schemas
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


def test_the_page(http: PlainHttp) -> None:
    """HTML that loads nothing from elsewhere and lets nobody put a script into it."""
    reply = http.get("/docs", key=None)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "http://" not in reply.text
    assert "https://" not in reply.text
    script = http.get("/docs.js", key=None)
    assert script.status == 200
    assert script.headers["content-type"].startswith("text/javascript")
