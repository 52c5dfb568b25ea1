"""Texts ordered by their likeness to a question: `pip install openai`, `python examples/embeddings.py`."""

import math
import os

import openai

client = openai.OpenAI(
    base_url=os.environ.get("INHOUSE_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ["INHOUSE_API_KEY"],
)

TEXTS = ["How do I make a key?", "What is a slot?", "Good morning!"]


def likeness(a: list[float], b: list[float]) -> float:
    """The cosine of the angle between two vectors."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


found = client.embeddings.create(
    model=os.environ.get("INHOUSE_MODEL", "demo"), input=["Where do I get a new key?", *TEXTS]
)
question, *vectors = [item.embedding for item in found.data]
for score, text in sorted(((likeness(question, vector), text) for vector, text in zip(vectors, TEXTS, strict=True))):
    print(f"{score:5.2f}  {text}")
