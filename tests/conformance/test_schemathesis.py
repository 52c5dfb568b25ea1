"""The API against its own description: what the document allows and what it forbids is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fake_engine import binary
from inhouse.wire.openapi import document
from serving import KEY, Gateway, serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schema = schemathesis.openapi.from_dict(document("test"))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before an engine that takes no time: answers of any length are affordable."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with serving(folder, f"models: {{demo: {{source: demo, engine_binary: {binary(folder)}}}}}") as running:
        yield running


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        yield one


@schema.parametrize()
@hypothesis.settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_what_the_document_says(case: schemathesis.Case, door: Gateway, session: requests.Session) -> None:
    """No 5xx; status, media type, headers and body are those that the document declares."""
    headers = {"Authorization": f"Bearer {KEY}"}
    case.call_and_validate(base_url=door.url, headers=headers, session=session, checks=CHECKS, timeout=20)
