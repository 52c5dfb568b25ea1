"""The Messages API with Anthropic's client: `pip install anthropic`, `python examples/anthropic_messages.py`."""

import os

import anthropic

client = anthropic.Anthropic(
    # this client adds /v1 by itself
    base_url=os.environ.get("INHOUSE_BASE_URL", "http://127.0.0.1:8080/v1").removesuffix("/v1"),
    api_key=os.environ["INHOUSE_API_KEY"],
)

with client.messages.stream(
    model=os.environ.get("INHOUSE_MODEL", "demo"),
    max_tokens=100,
    messages=[{"role": "user", "content": "Hello, who are you?"}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    usage = stream.get_final_message().usage
print(f"\n\n{usage.input_tokens} tokens read, {usage.output_tokens} written")
