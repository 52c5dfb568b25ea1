"""An answer as it comes, and the tokens it took: `pip install openai`, `python examples/python_stream.py`."""

import os

import openai

client = openai.OpenAI(
    base_url=os.environ.get("INHOUSE_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ["INHOUSE_API_KEY"],
)

# leaving the block closes the connection, which frees the slot: an answer can be stopped at any time
with client.chat.completions.create(
    model=os.environ.get("INHOUSE_MODEL", "demo"),
    messages=[{"role": "user", "content": "Hello, who are you?"}],
    max_tokens=100,
    stream=True,
    stream_options={"include_usage": True},
) as stream:
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n\n{chunk.usage.prompt_tokens} tokens read, {chunk.usage.completion_tokens} written")
