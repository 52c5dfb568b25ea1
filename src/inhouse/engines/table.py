"""All engines, as one table. A new one is a file beside this one and a line here; its name joins
`config/fleet.EngineName`."""

from __future__ import annotations

from inhouse.engines.engine import Engine
from inhouse.engines.llamacpp import LLAMA_SERVER, LLAMACPP
from inhouse.engines.ollama import OLLAMA
from inhouse.engines.openai import OPENAI
from inhouse.engines.sglang import SGLANG
from inhouse.engines.tensorrt_llm import TENSORRT_LLM
from inhouse.engines.tgi import TGI
from inhouse.engines.transformers import TRANSFORMERS
from inhouse.engines.vllm import VLLM

ENGINES: dict[str, Engine] = {
    "llamacpp": LLAMACPP,
    "llama-server": LLAMA_SERVER,
    "vllm": VLLM,
    "sglang": SGLANG,
    "tgi": TGI,
    "ollama": OLLAMA,
    "tensorrt-llm": TENSORRT_LLM,
    "transformers": TRANSFORMERS,
    "openai": OPENAI,
}
