"""An answer from a chat model, with the official client: `pip install openai`, `python examples/python_chat.py`."""

import os

import openai

client = openai.OpenAI(
    base_url=os.environ.get("INHOUSE_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ["INHOUSE_API_KEY"],
)

answer = client.chat.completions.create(
    model=os.environ.get("INHOUSE_MODEL", "demo"),
    messages=[
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": "What is a slot?"},
    ],
    max_tokens=100,
)
print(answer.choices[0].message.content)
