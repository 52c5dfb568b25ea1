"""A client of llama.cpp's server, and where the demo model lies."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = Path(__file__).parents[2] / "src/inhouse/weights/demo.gguf"


@dataclass(frozen=True, slots=True)
class Engine:
    """llama.cpp's server with the demo model."""

    url: str

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._open(path, body) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def chat(self, messages: str | list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """The first choice; a plain string is one question of the user."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"messages": messages, "temperature": 0, "max_tokens": 600, **fields}
        choice: dict[str, Any] = self.post("/v1/chat/completions", body)["choices"][0]
        return choice

    def say(self, messages: str | list[dict[str, Any]], **fields: Any) -> str:
        return str(self.chat(messages, **fields)["message"]["content"])

    def stream(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """All chunks of a streamed chat."""
        with self._open("/v1/chat/completions", {**body, "stream": True}) as response:
            lines = [line.decode().removeprefix("data: ").strip() for line in response]
        return [json.loads(line) for line in lines if line and line != "[DONE]"]

    def _open(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return urllib.request.urlopen(request, timeout=60)
