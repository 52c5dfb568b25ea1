"""Any other program or service that speaks OpenAI's API. It is spoken to and never started; what it can do is its own
matter, so nothing is refused for it."""

from __future__ import annotations

from inhouse.engines.engine import Engine, Trap

OPENAI = Engine(
    name="openai",
    title="another OpenAI-compatible API",
    health=b"/v1/models",
    metrics=(),
    documents=True,
    abilities=frozenset({"tools", "json_schema", "logprobs", "embeddings", "rerank", "lora"}),
    embeds_all=True,
    traps=(
        Trap("what is sent there leaves this place: `external: true` keeps it to tenants that allow that"),
        Trap("what it cannot do it says itself, in its own words"),
    ),
)
