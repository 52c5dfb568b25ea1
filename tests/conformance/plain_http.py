"""One request over a connection of its own, with nothing between the test and the wire."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 30.0
SHORT_S = 5.0


@dataclass(frozen=True)
class Reply:
    """A whole response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def events(self) -> list[str]:
        """The data of a stream's events."""
        lines = self.text.splitlines()
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


@dataclass(frozen=True)
class PlainHttp:
    """Asks a gateway. The key is sent unless `key` says otherwise; None sends no credentials at all."""

    address: tuple[str, int]
    own_key: str

    def get(self, path: str, **how: Any) -> Reply:
        return self.ask("GET", path, **how)

    def post(self, path: str, body: Any, **how: Any) -> Reply:
        """`body` is sent as it is when it is bytes, as JSON otherwise."""
        return self.ask("POST", path, body, **how)

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, key: str | None = ""
    ) -> Reply:
        sent: dict[str, str] = {}
        if key is not None:
            sent["authorization"] = f"Bearer {key or self.own_key}"
        if body is not None:
            sent["content-type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, {**sent, **(headers or {})})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def announce(self, path: str, body_bytes: int) -> Reply:
        """Sends the head of a POST whose body is said to be so long, and no body at all."""
        connection = http.client.HTTPConnection(*self.address, timeout=SHORT_S)
        try:
            connection.putrequest("POST", path)
            connection.putheader("authorization", f"Bearer {self.own_key}")
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(body_bytes))
            connection.endheaders()
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()
