"""Programs that stand in for engines which cannot run here: `vllm`, `sglang`, `text-generation-launcher`,
`trtllm-serve`, `ollama`, `llama-server`.

Each takes the flags of the real one and refuses any other, as that does, then speaks its dialect
(`inhouse.fake.dialects`). The lists of flags are of the real programs' sources and documents: vLLM 0.33 (cli_args.py,
`vllm serve --help`), SGLang 0.5.23 (server arguments), TGI 3.3 (launcher/src/main.rs), TensorRT-LLM 1.2
(commands/serve.py), llama.cpp b11549; Ollama takes its environment. Not all that they have, but none that they lack.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

NAMES = ("vllm", "sglang", "text-generation-launcher", "trtllm-serve", "ollama", "llama-server")
_SCRIPT = """#!{python} -P
import sys
sys.path.insert(0, {tests!r})
import engine_programs
engine_programs.main({name!r}, sys.argv[1:])
"""
FLAGS: dict[str, str] = {
    "vllm": "--served-model-name= --host= --port= --uds= --max-model-len= --max-num-seqs= --gpu-memory-utilization= "
    "--tensor-parallel-size= --pipeline-parallel-size= --quantization= --runner= --dtype= --kv-cache-dtype= "
    "--tool-call-parser= --chat-template= --max-num-batched-tokens= --swap-space= --api-key= --uvicorn-log-level= "
    "--enable-auto-tool-choice --enable-prompt-tokens-details --disable-uvicorn-access-log --enable-lora "
    "--enable-prefix-caching --enforce-eager --trust-remote-code --enable-log-requests",
    "sglang": "--model-path= --served-model-name= --host= --port= --context-length= --max-running-requests= "
    "--mem-fraction-static= --tp-size= --dp-size= --quantization= --tool-call-parser= --dtype= --kv-cache-dtype= "
    "--chat-template= --api-key= --log-level= --enable-metrics --enable-cache-report --is-embedding "
    "--trust-remote-code --log-requests",
    "text-generation-launcher": "--model-id= --hostname= --port= --max-concurrent-requests= --max-total-tokens= "
    "--max-input-tokens= --max-batch-total-tokens= --max-batch-prefill-tokens= --cuda-memory-fraction= --num-shard= "
    "--sharded= --quantize= --dtype= --usage-stats= --master-port= --shard-uds-path= --api-key= --trust-remote-code "
    "--json-output --disable-custom-kernels",
    "trtllm-serve": "--host= --port= --backend= --tokenizer= --max_batch_size= --max_num_tokens= --max_seq_len= "
    "--max_beam_width= --tp_size= --pp_size= --ep_size= --kv_cache_free_gpu_memory_fraction= "
    "--extra_llm_api_options= --reasoning_parser= --num_postprocess_workers= --trust_remote_code",
    "llama-server": "--model= --alias= --host= --port= --ctx-size= --parallel= --batch-size= --ubatch-size= --threads= "
    "--ctx-checkpoints= --lora= --lora-scaled= "
    "--threads-batch= --pooling= --n-gpu-layers= --cache-ram= --cache-reuse= --slot-prompt-similarity= --flash-attn= "
    "--metrics --slots --jinja --embeddings --reranking --no-mmap",
    "ollama": "",
}
"""By program; `=` behind those that take a value."""
_HELPERS = {"vllm": 1, "sglang": 2, "text-generation-launcher": 1, "trtllm-serve": 1}
"""Processes of its own that it starts, as workers on GPUs are."""


def install(folder: Path) -> None:
    """Writes the programs into `folder`, to be put on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        path = folder / name
        path.write_text(_SCRIPT.format(python=sys.executable, tests=str(Path(__file__).parent), name=name))
        path.chmod(0o755)


def main(name: str, args: list[str]) -> None:
    """What the program does. Unknown flags end it with status 2 and a message, as those of the real one."""
    if name == "ollama":
        _ollama(args)
        return
    weights = ""
    if name in ("vllm", "sglang", "trtllm-serve"):
        if args[:1] != ["serve"]:
            sys.exit(f"{name}: error: argument subcommand: invalid choice: {args[:1]} (choose from 'serve')")
        args = args[1:]
    if name in ("vllm", "trtllm-serve"):
        weights, args = args[0], args[1:]
    parser = argparse.ArgumentParser(prog=name, allow_abbrev=False)
    for flag in FLAGS[name].split():
        if flag.endswith("="):
            parser.add_argument(flag[:-1])
        else:
            parser.add_argument(flag, action="store_true")
    given = {key: value for key, value in vars(parser.parse_args(args)).items() if value is not None}
    weights = weights or given.get("model_path") or given.get("model_id") or given["model"]
    if not Path(weights).exists():
        sys.exit(f"OSError: {weights} is not a local folder and is not a valid model identifier")
    for _ in range(_HELPERS.get(name, 0)):
        subprocess.Popen(["sleep", "1000"])
    _serve(name, given, weights)


def _serve(name: str, given: dict[str, Any], weights: str) -> None:
    host = given.get("uds") or given.get("host") or given.get("hostname") or "127.0.0.1"
    slots = int(given.get("max_num_seqs") or given.get("max_running_requests") or given.get("max_batch_size") or 0)
    slots = slots or int(given.get("max_concurrent_requests") or given.get("parallel") or 4)
    context = int(given.get("max_model_len") or given.get("context_length") or given.get("max_seq_len") or 0)
    context = context or int(given.get("max_total_tokens") or 0) or int(given.get("ctx_size") or 4096 * slots) // slots
    alias = given.get("served_model_name") or given.get("alias") or weights
    if name == "trtllm-serve":  # it knows the model by the end of its path, and answers with that
        alias = Path(weights).name
    speaks = {"text-generation-launcher": "tgi", "trtllm-serve": "tensorrt-llm", "llama-server": "llamacpp"}
    _run(speaks.get(name, name), alias, host, int(given.get("port") or 0), slots, context)


def _run(speaks: str, alias: str, host: str, port: int, slots: int, context: int) -> None:
    from inhouse.fake.program import Place, run
    from inhouse.fake.settings import Settings

    delay = float(os.environ.get("STAND_IN_TOKENS_PER_S", "0"))
    settings = Settings(slots=slots, context_tokens=context, speaks=speaks, tokens_per_s=delay)
    run(settings, model=alias, place=Place(host, port), control=None)


def _ollama(args: list[str]) -> None:
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    if args == ["serve"]:
        slots, context = int(os.environ["OLLAMA_NUM_PARALLEL"]), int(os.environ["OLLAMA_CONTEXT_LENGTH"])
        _run("ollama", "", host, int(port), slots, context)
    command, name, flag, file = args
    weights = Path(file).read_text().removeprefix("FROM ").strip()
    if command != "create" or flag != "-f" or not Path(weights).exists():
        sys.exit(f"Error: no such thing: {args} from {weights}")
    body = json.dumps({"model": name}).encode()
    request = urllib.request.Request(f"http://{host}:{port}/api/create", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
