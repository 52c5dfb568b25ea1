"""A Responses request as the chat request that it means. What would change the answer and cannot be done is refused."""

from __future__ import annotations

from msgspec import Raw

from inhouse.errors import BadRequest
from inhouse.wire import chat
from inhouse.wire.chat import ChatRequest
from inhouse.wire.responses_request import (
    AllowedTools,
    FunctionChoice,
    FunctionTool,
    InputPart,
    InputText,
    OutputText,
    Refusal,
    ResponsesRequest,
    decode_call,
    decode_kind,
    decode_message,
    decode_output,
)

_WHOLE = "send the whole conversation in `input`"
_ABSENT = {
    "background": "a response in the background is asked for over HTTP, by itself: POST /v1/responses",
    "conversation": f"conversations are not kept yet; {_WHOLE}",
    "previous_response_id": f"responses are not kept yet; {_WHOLE}",
    "prompt": "stored prompts are not available; send the text in `instructions` and `input`",
    "moderation": "moderation is not available here; leave it out",
    "top_logprobs": "log probabilities are available at /v1/chat/completions",
}


def chat_request(asked: ResponsesRequest) -> ChatRequest:
    """Raises BadRequest for content that no engine here takes and for what the gateway cannot do yet."""
    _refuse_absent(asked)
    request = ChatRequest(model=asked.model, messages=_messages(asked))
    request.max_tokens = asked.max_output_tokens
    request.temperature = asked.temperature
    request.top_p = asked.top_p
    request.response_format = _response_format(asked)
    request.reasoning_effort = asked.reasoning.effort if asked.reasoning else None
    request.user = asked.user
    tools = [_tool(tool, i) for i, tool in enumerate(asked.tools or ())]
    _choose_tool(asked, tools, request)
    if request.tools:
        request.parallel_tool_calls = asked.parallel_tool_calls
    return request


def _refuse_absent(asked: ResponsesRequest) -> None:
    for name, reason in _ABSENT.items():
        if getattr(asked, name):
            raise BadRequest(f"`{name}`: {reason}", param=name)
    for i, wanted in enumerate(asked.include or ()):
        if wanted == "message.output_text.logprobs":
            raise BadRequest(f"`include[{i}]`: {_ABSENT['top_logprobs']}", param=f"include[{i}]")


def _messages(asked: ResponsesRequest) -> list[chat.Message]:
    found: list[chat.Message] = []
    if asked.instructions:
        found.append(chat.Message("system", asked.instructions))
    if isinstance(asked.input, str):
        found.append(chat.Message("user", asked.input))
        return found
    before = len(found)
    for i, item in enumerate(asked.input):
        _add(found, item, f"input[{i}]")
    if len(found) == before:
        raise BadRequest("`input` has no message", param="input")
    return found


def _add(found: list[chat.Message], item: Raw, at: str) -> None:
    """Adds one item to the conversation. Calls join the assistant's message before them, as chat templates expect."""
    kind = decode_kind(item, at=at).type
    if kind == "message":
        message = decode_message(item, at=at)
        found.append(chat.Message(message.role, _content(message.content, f"{at}.content")))
    elif kind == "function_call":
        call = decode_call(item, at=at)
        if not found or found[-1].role != "assistant":
            found.append(chat.Message("assistant"))
        made = chat.ToolCall(call.call_id, chat.FunctionCall(call.name, call.arguments))
        found[-1].tool_calls = [*(found[-1].tool_calls or ()), made]
    elif kind == "function_call_output":
        result = decode_output(item, at=at)
        content = _content(result.output, f"{at}.output")
        found.append(chat.Message("tool", content, tool_call_id=result.call_id))
    elif kind == "item_reference":
        raise BadRequest(f"`{at}.type`: responses are not kept yet; {_WHOLE}", param=f"{at}.type")
    elif kind != "reasoning":
        raise BadRequest(
            f"invalid value for `{at}.type`: {kind!r} is not supported; "
            "supported are message, function_call, function_call_output and reasoning",
            param=f"{at}.type",
        )


def _content(content: str | list[InputPart], at: str) -> str | list[chat.Part]:
    """One text as a string, several as parts: how they are joined is for the chat template to say."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for i, part in enumerate(content):
        if isinstance(part, InputText | OutputText):
            texts.append(part.text)
        elif isinstance(part, Refusal):
            texts.append(part.refusal)
        else:
            kind = str(part.__struct_config__.tag)
            raise BadRequest(
                f"invalid value for `{at}[{i}].type`: {kind!r} cannot stand here; this model takes text only; "
                "send what it shows as input_text",
                param=f"{at}[{i}].type",
            )
    return [chat.TextPart(text) for text in texts] if len(texts) > 1 else "".join(texts)


def _response_format(asked: ResponsesRequest) -> chat.ResponseFormat | None:
    form = asked.text.format if asked.text else None
    if form is None:
        return None
    if form.type != "json_schema":
        return chat.ResponseFormat(form.type)
    for name in ("name", "schema"):
        if getattr(form, name) is None:
            raise BadRequest(f"missing required parameter `text.format.{name}`", param=f"text.format.{name}")
    schema = chat.JsonSchema(form.name or "", form.schema, form.description, form.strict)
    return chat.ResponseFormat("json_schema", schema)


def _tool(tool: FunctionTool, i: int) -> chat.Tool:
    if tool.type != "function":
        raise BadRequest(
            f"invalid value for `tools[{i}].type`: the tool {tool.type!r} runs on OpenAI's servers; "
            "supported are tools of type function",
            param=f"tools[{i}].type",
        )
    if tool.name is None:
        raise BadRequest(f"missing required parameter `tools[{i}].name`", param=f"tools[{i}].name")
    return chat.Tool(chat.Function(tool.name, tool.description, tool.parameters, tool.strict), "function")


def _choose_tool(asked: ResponsesRequest, tools: list[chat.Tool], request: ChatRequest) -> None:
    choice = asked.tool_choice
    names = [tool.function.name for tool in tools]
    if isinstance(choice, FunctionChoice):
        _require(choice.name, names, "tool_choice.name")
        request.tool_choice = chat.NamedToolChoice(chat.NamedFunction(choice.name))
    elif isinstance(choice, AllowedTools):
        for i, allowed in enumerate(choice.tools):
            _require(allowed.name, names, f"tool_choice.tools[{i}].name")
        permitted = {allowed.name for allowed in choice.tools}
        tools = [tool for tool in tools if tool.function.name in permitted]
        request.tool_choice = choice.mode
    elif choice == "required" and not tools:
        raise BadRequest("`tool_choice` asks for a tool, and `tools` has none", param="tool_choice")
    elif tools:
        request.tool_choice = choice
    request.tools = tools or None


def _require(name: str | None, names: list[str], param: str) -> None:
    if name not in names:
        has = ", ".join(names) or "none"
        raise BadRequest(f"`{param}`: no tool {name!r} in `tools` ({has})", param=param)
