"""The model calls a function of ours, and answers with what it returned: `pip install openai`."""

import json
import os

import openai

client = openai.OpenAI(
    base_url=os.environ.get("INHOUSE_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ["INHOUSE_API_KEY"],
)
MODEL = os.environ.get("INHOUSE_MODEL", "demo")


def weather(city: str) -> str:
    """Stands for a real source."""
    return f"18 degrees and rain in {city}"


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city, now.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]

messages = [{"role": "user", "content": "What is the weather in Lisbon?"}]
said = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, max_tokens=100).choices[0].message
if said.tool_calls:
    messages.append(said.model_dump(exclude_none=True))
    for call in said.tool_calls:
        # what a model writes is untrusted input: look before you act on it
        city = str(json.loads(call.function.arguments).get("city", "nowhere"))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": weather(city)})
    said = (
        client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, max_tokens=100).choices[0].message
    )
print(said.content)
