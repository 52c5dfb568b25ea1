"""A Messages request as the chat request that it means. What would change the answer and cannot be done is refused."""

from __future__ import annotations

from typing import Any

import msgspec

from inhouse.errors import BadRequest
from inhouse.wire import chat
from inhouse.wire.chat import ChatRequest
from inhouse.wire.messages_request import (
    AnyChoice,
    CountRequest,
    DocumentBlock,
    ImageBlock,
    InputBlock,
    InputTool,
    MessagesRequest,
    NoneChoice,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)


def create_request(asked: MessagesRequest) -> ChatRequest:
    """The chat request that a Messages request means. Raises BadRequest for content that no engine here takes."""
    for name in ("container", "thread"):
        if getattr(asked, name) is not None:
            raise BadRequest(f"`{name}` is not available here; send the whole conversation in `messages`", param=name)
    request = count_request(asked)
    request.max_tokens = asked.max_tokens
    request.stop = asked.stop_sequences or None
    request.temperature = asked.temperature
    request.top_p = asked.top_p
    request.top_k = asked.top_k
    request.user = asked.metadata.user_id if asked.metadata else None
    return request


def count_request(asked: CountRequest) -> ChatRequest:
    """The part of `create_request` that decides what the model reads."""
    if asked.mcp_servers:
        raise BadRequest(
            "`mcp_servers` is not available here; call the servers yourself and offer their tools in `tools`",
            param="mcp_servers",
        )
    request = ChatRequest(model=asked.model, messages=_messages(asked))
    request.tools = [_tool(tool, i) for i, tool in enumerate(asked.tools or ())] or None
    _choose_tool(asked, request)
    form = (asked.output_config.format if asked.output_config else None) or asked.output_format
    if form:
        request.response_format = chat.ResponseFormat("json_schema", chat.JsonSchema(schema=form.schema, strict=True))
    if asked.output_config:
        request.reasoning_effort = asked.output_config.effort
    if asked.thinking and asked.thinking.type in ("enabled", "disabled"):
        # the name that the chat templates of reasoning models share (Qwen 3, GLM, Granite …); others pass over it
        request.chat_template_kwargs = {"enable_thinking": asked.thinking.type == "enabled"}
    return request


def _messages(asked: CountRequest) -> list[chat.Message]:
    found: list[chat.Message] = []
    if asked.system:
        found.append(chat.Message("system", _content(asked.system, "system")))
    for i, message in enumerate(asked.messages):
        at = f"messages[{i}].content"
        if isinstance(message.content, str):
            found.append(chat.Message(message.role, message.content))
        elif message.role == "assistant":
            found.append(_assistant(message.content, at))
        else:
            found.extend(_spoken(message.role, message.content, at))
    return found


def _assistant(blocks: list[InputBlock], at: str) -> chat.Message:
    texts: list[TextBlock] = []
    calls: list[chat.ToolCall] = []
    for i, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            texts.append(block)
        elif isinstance(block, ToolUseBlock):
            arguments = msgspec.json.encode(block.input).decode()
            calls.append(chat.ToolCall(block.id, chat.FunctionCall(block.name, arguments)))
        elif not isinstance(block, ThinkingBlock | RedactedThinkingBlock):
            raise _misplaced(block, f"{at}[{i}]", "an assistant message has text, tool_use and thinking")
    content = _content(texts, at) if texts or not calls else None
    return chat.Message("assistant", content, tool_calls=calls or None)


def _spoken(role: chat.Role, blocks: list[InputBlock], at: str) -> list[chat.Message]:
    """The messages of one user turn. Each tool's result is a message of its own, before or between the words."""
    found: list[chat.Message] = []
    texts: list[TextBlock] = []
    for i, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            texts.append(block)
        elif isinstance(block, ToolResultBlock) and role == "user":
            if texts:
                found.append(chat.Message(role, _content(texts, at)))
                texts = []
            result = _content(block.content or "", f"{at}[{i}].content")
            found.append(chat.Message("tool", result, tool_call_id=block.tool_use_id))
        else:
            expected = "text and tool_result" if role == "user" else "text"
            raise _misplaced(block, f"{at}[{i}]", f"a {role} message has {expected}")
    if texts or not found:
        found.append(chat.Message(role, _content(texts, at)))
    return found


def _content(content: str | list[TextBlock] | list[TextBlock | ImageBlock | DocumentBlock], at: str) -> Any:
    """One text as a string, several as parts: how they are joined is for the chat template to say."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for i, block in enumerate(content):
        if not isinstance(block, TextBlock):
            raise _misplaced(block, f"{at}[{i}]", "the result of a tool is text")
        texts.append(block.text)
    return [chat.TextPart(text) for text in texts] if len(texts) > 1 else "".join(texts)


def _misplaced(block: InputBlock, at: str, rule: str) -> BadRequest:
    kind = str(block.__struct_config__.tag)
    if isinstance(block, ImageBlock | DocumentBlock):
        rule = "this model takes text only; send what it shows as a text block"
    return BadRequest(f"invalid value for `{at}.type`: {kind!r} cannot stand here; {rule}", param=f"{at}.type")


def _tool(tool: InputTool, i: int) -> chat.Tool:
    if tool.type not in (None, "custom"):
        raise BadRequest(
            f"invalid value for `tools[{i}].type`: {tool.type!r} runs on Anthropic's servers; "
            "supported are custom tools, with name, description and input_schema",
            param=f"tools[{i}].type",
        )
    if tool.input_schema is None:
        name = f"tools[{i}].input_schema"
        raise BadRequest(f"missing required parameter `{name}`: the JSON Schema of the tool's input", param=name)
    return chat.Tool(chat.Function(tool.name, tool.description, tool.input_schema, tool.strict), "function")


def _choose_tool(asked: CountRequest, request: ChatRequest) -> None:
    choice = asked.tool_choice
    if choice is None:
        return
    if isinstance(choice, NoneChoice):
        request.tool_choice = "none"
        return
    if isinstance(choice, ToolChoice):
        names = [tool.name for tool in asked.tools or ()]
        if choice.name not in names:
            has = ", ".join(names) or "none"
            raise BadRequest(
                f"`tool_choice.name`: no tool {choice.name!r} in `tools` ({has})", param="tool_choice.name"
            )
        request.tool_choice = chat.NamedToolChoice(chat.NamedFunction(choice.name))
    elif isinstance(choice, AnyChoice):
        if not asked.tools:
            raise BadRequest("`tool_choice` asks for a tool, and `tools` has none", param="tool_choice")
        request.tool_choice = "required"
    else:
        request.tool_choice = "auto" if asked.tools else None
    if choice.disable_parallel_tool_use is not None and asked.tools:
        request.parallel_tool_calls = not choice.disable_parallel_tool_use
