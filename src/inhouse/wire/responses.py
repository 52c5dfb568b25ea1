"""OpenAI Responses (`/v1/responses`): a translation to chat and back.

What it is not: a store. Responses and conversations are not kept, so that `previous_response_id` and `conversation` are
refused with a sentence that says what to send instead; `store` is accepted, and the answer says that it was not. Of
responses in the background only what they ask for is here; `gateway/background.py` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.errors import ApiError
from inhouse.wire import errors
from inhouse.wire.chat import ChatRequest, Rendering
from inhouse.wire.responses_render import ResponsesRendering
from inhouse.wire.responses_request import ResponsesRequest, decode
from inhouse.wire.responses_translate import chat_request


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """A parsed request for a response: the model it names, and the chat request that it means."""

    model: str
    stream: bool
    request: ChatRequest
    asked: ResponsesRequest
    """The request as it came: the answer tells its settings back."""

    @property
    def may_trim(self) -> bool | None:
        """Whether a conversation that is too long may lose its oldest part; None where the client does not say."""
        return None if self.asked.truncation is None else self.asked.truncation == "auto"

    def rendering(self, id_hex: str, now_s: float) -> Rendering:
        """How the answer is shown. `now_s` is its `created_at`."""
        return ResponsesRendering(self.asked, id_hex, now_s)


def parse(body: bytes | bytearray) -> ResponsesCall:
    """Raises BadRequest, which names the place in the request, and InvalidJson."""
    asked = decode(body)
    return ResponsesCall(asked.model, bool(asked.stream), chat_request(asked), asked)


def render_error(error: ApiError) -> bytes:
    """The JSON body of a refusal: that of every OpenAI API."""
    return errors.body(error)
