"""What is refused, how, and as which exception of the official client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from plain_http import PlainHttp, Reply

from serving import KEY, Gateway

CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"model": "demo", "messages": HELLO, "max_tokens": 1}
HOT = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/generate"]
SHORT = ["/tokenize", "/detokenize"]


def assert_error(reply: Reply, status: int, code: str) -> str:
    """The error object of the OpenAI API; returns the message."""
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["type"]
    message: str = error["message"]
    assert message
    return message


@pytest.mark.parametrize("path", [*HOT, *SHORT, "/v1/messages", "/v1/messages/count_tokens", "/no/such/path"])
@pytest.mark.parametrize("key", [None, ""], ids=["no key", "an empty object"])
def test_the_id_of_a_refused_request(http: PlainHttp, path: str, key: str | None) -> None:
    """Every refusal carries one in `x-request-id`, by which the operator finds it in the log."""
    reply = http.post(path, {}, key=key)
    assert reply.status in (400, 401, 404)
    assert reply.headers.get("x-request-id")


def test_the_ids_of_two_requests(http: PlainHttp) -> None:
    """They differ; answers carry them as refusals do."""
    first, second = (http.post(CHAT, ASKED) for _ in range(2))
    assert first.status == second.status == 200
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert http.get("/v1/models").headers.get("x-request-id")


@pytest.mark.parametrize("path", [*HOT, *SHORT])
def test_no_key(http: PlainHttp, path: str) -> None:
    """Nothing is looked at before the key: 401, and how to send one."""
    reply = http.post(path, b"not even JSON", key=None)
    assert "Authorization: Bearer" in assert_error(reply, 401, "invalid_api_key")
    assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/demo", "/slots"])
def test_no_key_for_a_list(http: PlainHttp, path: str) -> None:
    """What says something about the models is closed as well."""
    assert_error(http.get(path, key=None), 401, "invalid_api_key")


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], KEY + "x", KEY.upper(), " ", "\u00e9"])
def test_a_wrong_key(gateway: Gateway, http: PlainHttp, key: str) -> None:
    """A key that is nearly right is wrong, in both headers."""
    value = key.encode("latin-1").decode("latin-1")
    for headers in ({"authorization": f"Bearer {value}"}, {"x-api-key": value}):
        assert_error(http.post(CHAT, ASKED, headers=headers, key=None), 401, "invalid_api_key")


def test_a_wrong_key_of_the_official_client(gateway: Gateway) -> None:
    """It raises AuthenticationError."""
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(**ASKED)
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("headers", [{"x-api-key": KEY}, {"authorization": f"bearer {KEY}"}])
def test_a_right_key_in_another_form(http: PlainHttp, headers: dict[str, str]) -> None:
    """`x-api-key` is as good as `Authorization`, and the scheme's case does not matter."""
    assert http.post(CHAT, ASKED, headers=headers, key=None).status == 200
    assert http.get("/v1/models", headers=headers, key=None).status == 200


@pytest.mark.parametrize("path", [*HOT[:-1], *SHORT])
def test_a_model_that_does_not_exist(http: PlainHttp, path: str) -> None:
    """404, and the models that do exist."""
    bodies: dict[str, Any] = {
        CHAT: {"messages": HELLO},
        "/v1/completions": {"prompt": "a"},
        "/v1/embeddings": {"input": "a"},
        "/v1/responses": {"input": "a"},
        "/tokenize": {"content": "a"},
        "/detokenize": {"tokens": [1]},
    }
    message = assert_error(http.post(path, {"model": "gpt-9", **bodies[path]}), 404, "model_not_found")
    assert "'gpt-9'" in message
    assert "'demo'" in message


def test_a_model_that_does_not_exist_for_the_official_client(client: openai.OpenAI) -> None:
    """It raises NotFoundError, which names the parameter."""
    with pytest.raises(openai.NotFoundError, match="'demo'") as refused:
        client.chat.completions.create(model="dmeo", messages=HELLO)
    assert refused.value.param == "model"
    assert refused.value.request_id


@pytest.mark.parametrize("path", [*HOT, *SHORT])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": demo}', b"\xff\xfe"],
    ids=["nothing", "cut off", "a bare word", "no UTF-8"],
)
def test_a_body_that_is_no_json(http: PlainHttp, path: str, body: bytes) -> None:
    """400, and where it breaks."""
    assert_error(http.post(path, body), 400, "invalid_json")


def test_a_body_that_is_nested_too_deeply(http: PlainHttp) -> None:
    """400: nobody can make the decoder run out of stack."""
    deep = b"[" * 100_000 + b"]" * 100_000
    body = b'{"chat_template_kwargs": {"a": %b}}' % deep
    assert "128 levels" in assert_error(http.post(CHAT, body), 400, "request_too_complex")


@pytest.mark.parametrize("path", [*HOT, *SHORT])
@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"text"'])
def test_a_body_that_is_no_object(http: PlainHttp, path: str, body: bytes) -> None:
    """400: JSON it is, but not what this endpoint takes."""
    assert "object" in assert_error(http.post(path, body), 400, "invalid_value")


@pytest.mark.parametrize("path", [*HOT, *SHORT])
def test_a_body_of_another_kind(http: PlainHttp, path: str) -> None:
    """415, and which header to send."""
    reply = http.post(path, b"hello", headers={"content-type": "text/plain"})
    assert "application/json" in assert_error(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", [*HOT, *SHORT])
def test_a_body_that_is_too_large(http: PlainHttp, path: str) -> None:
    """413, told from the head alone: the body need not be sent first."""
    reply = http.announce(path, 9 * 1024 * 1024)
    assert str(8 * 1024 * 1024) in assert_error(reply, 413, "request_too_large")


@pytest.mark.parametrize("path", [*HOT, *SHORT])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method(http: PlainHttp, path: str, method: str) -> None:
    """405, and in `Allow` the one to use."""
    reply = http.ask(method, path)
    assert_error(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"max_tokens": "many"}, "max_tokens", "int"),
        ({"messages": "hello"}, "messages", "array"),
        ({"messages": []}, "messages", "length"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "str"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "robot"),
        ({"stream": "yes"}, "stream", "bool"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream"),
    ],
    ids=lambda value: None,
)
def test_a_wrong_type(client: openai.OpenAI, fields: dict[str, Any], param: str, said: str) -> None:
    """400 under the field's name, with what was expected."""
    with pytest.raises(openai.BadRequestError, match=said) as refused:
        client.chat.completions.create(model="demo", **{"messages": HELLO, "extra_body": fields})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field(http: PlainHttp, missing: str) -> None:
    """400, and which one."""
    reply = http.post(CHAT, {name: value for name, value in ASKED.items() if name != missing})
    assert missing in assert_error(reply, 400, "invalid_value")
    assert reply.json["error"]["param"] == missing


@pytest.mark.parametrize(
    ("path", "typo", "near"),
    [
        (CHAT, "temprature", "temperature"),
        (CHAT, "max_token", "max_tokens"),
        ("/v1/completions", "promt", "prompt"),
        ("/v1/embeddings", "inputs", "input"),
        ("/v1/responses", "instruction", "instructions"),
        ("/generate", "txt", "text"),
        ("/tokenize", "contents", "content"),
    ],
)
def test_a_typo(http: PlainHttp, path: str, typo: str, near: str) -> None:
    """400 where the right name is missing, and the nearest name that exists."""
    reply = http.post(path, {typo: 1})
    assert f"did you mean `{near}`" in assert_error(reply, 400, "unknown_parameter")
    assert reply.json["error"]["param"] == typo


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_longer_than_the_context(client: openai.OpenAI, stream: bool) -> None:
    """400 with both numbers, also for a stream: nothing of it has begun."""
    long: list[Any] = [{"role": "user", "content": "good morning " * 5000}]
    (card,) = client.models.list()
    both = rf"\d{{5}} tokens.* {card.model_dump()['context']} tokens"
    with pytest.raises(openai.BadRequestError, match=both) as refused:
        client.chat.completions.create(model="demo", messages=long, stream=stream)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"


def test_a_text_longer_than_the_context(client: openai.OpenAI) -> None:
    """The older API says the same of its own parameter."""
    with pytest.raises(openai.BadRequestError, match=r"\d{5} tokens") as refused:
        client.completions.create(model="demo", prompt="good morning " * 5000)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "prompt"


async def test_a_refusal_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """The same exceptions with asyncio."""
    with pytest.raises(openai.NotFoundError, match="'demo'"):
        await async_client.chat.completions.create(model="other", messages=HELLO)
