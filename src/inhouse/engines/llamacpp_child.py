"""The embedded engine: llama.cpp's HTTP server from the `xllamacpp` wheel, with llama-server's own flags.

A program of its own (`python llamacpp_child.py --model … --host /path/x.sock …`) that imports nothing of inhouse, so
that a crash, an endless load or a kill for memory stays here. It ends when its standard input does; on Linux also by
the kernel's hand when its parent is gone. It is never stopped by deleting the server, which can block for half a
minute on an open stream: the process exits at once.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import threading
from typing import Any

PR_SET_PDEATHSIG = 1
LOAD_FAILED = 3
PROMPT_CACHE_MIB = 256
VERBOSE = 4  # the level at which llama.cpp says why a load failed


def parse(args: list[str]) -> argparse.Namespace:
    """The flags that the embedded engine knows. Unknown ones end the program with a message."""
    parser = argparse.ArgumentParser(prog="embedded llama.cpp", add_help=False, allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, help="where --host is an address and no socket")
    parser.add_argument("--ctx-size", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--threads-batch", type=int)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--n-gpu-layers", type=int, default=-1)
    parser.add_argument("--cache-ram", type=int, default=PROMPT_CACHE_MIB, help="MiB of prompt cache")
    parser.add_argument("--cache-reuse", type=int, default=0)
    parser.add_argument("--ctx-checkpoints", type=int, help="where a slot of a model with windows can go back to")
    for flag in ("--cache-type-k", "--cache-type-v"):
        parser.add_argument(flag, choices=["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
    parser.add_argument("--flash-attn", choices=["on", "off", "auto"])
    parser.add_argument(
        "--slot-prompt-similarity", type=float, help="how much of a prompt a slot must know to be taken"
    )
    parser.add_argument("--pooling", choices=["none", "mean", "cls", "last", "rank"])
    parser.add_argument("--chat-template-file")
    parser.add_argument("--reasoning-format", choices=["none", "deepseek"])
    parser.add_argument("--lora", action="append", default=[], metavar="FILE,…", help="adapters, at full strength")
    parser.add_argument("--lora-scaled", action="append", default=[], metavar="FILE:SCALE,…")
    parser.add_argument("--kv-unified", action="store_true")
    parser.add_argument("--load-mode", choices=["none", "mmap", "mlock"])
    for flag in ("--metrics", "--slots", "--jinja", "--embeddings"):
        parser.add_argument(flag, action="store_true")
    flags = parser.parse_args(args)
    flags.adapters = adapters(flags.lora, flags.lora_scaled)
    return flags


def parameters(flags: argparse.Namespace, engine: Any) -> Any:
    """llama.cpp's parameters: the flags, and defaults that suit an engine behind a gateway."""
    found = engine.CommonParams()
    found.model.path = flags.model
    found.model_alias = {flags.alias}
    found.hostnames = [flags.host]
    found.n_ctx = flags.ctx_size
    found.n_parallel = flags.parallel
    found.cpuparams.n_threads = flags.threads
    found.cpuparams_batch.n_threads = flags.threads_batch or flags.threads
    found.n_batch = flags.batch_size
    found.n_ubatch = flags.ubatch_size
    found.n_gpu_layers = flags.n_gpu_layers
    found.kv_unified = flags.kv_unified
    found.endpoint_metrics = flags.metrics
    found.endpoint_slots = flags.slots
    found.use_jinja = flags.jinja
    found.embedding = flags.embeddings
    found.cache_ram_mib = flags.cache_ram
    found.n_cache_reuse = flags.cache_reuse
    found.ui = False
    found.cors_origins = ""
    found.fit_params = False
    found.n_threads_http = 2 * flags.parallel + 16  # each connection holds one
    if flags.port is not None:
        found.port = flags.port
    if flags.ctx_checkpoints is not None:
        found.n_ctx_checkpoints = flags.ctx_checkpoints
    for name in ("cache_type_k", "cache_type_v"):
        if getattr(flags, name) is not None:
            setattr(found, name, getattr(engine.ggml_type, f"GGML_TYPE_{getattr(flags, name).upper()}"))
    if flags.flash_attn is not None:
        word = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[flags.flash_attn]
        found.flash_attn_type = getattr(engine.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{word}")
    if flags.slot_prompt_similarity is not None:
        found.slot_prompt_similarity = flags.slot_prompt_similarity
    if flags.load_mode is not None:
        found.load_mode = getattr(engine.llama_load_mode, f"LLAMA_LOAD_MODE_{flags.load_mode.upper()}")
    if flags.pooling is not None:
        found.pooling_type = getattr(engine.llama_pooling_type, f"LLAMA_POOLING_TYPE_{flags.pooling.upper()}")
    if flags.adapters:
        found.lora_adapters = [engine.CommonAdapterLoraInfo(path, scale) for path, scale in flags.adapters]
    if flags.chat_template_file is not None:
        with open(flags.chat_template_file, encoding="utf-8") as file:
            found.chat_template = file.read()
    if flags.reasoning_format is not None:
        name = f"COMMON_REASONING_FORMAT_{flags.reasoning_format.upper()}"
        found.reasoning_format = getattr(engine.common_reasoning_format, name)
    return found


def adapters(full: list[str], scaled: list[str]) -> list[tuple[str, float]]:
    """File and strength of each, as llama-server reads its own flags. Ends the program where one is not there."""
    found = [(path, 1.0) for given in full for path in given.split(",")]
    for path, _, scale in (one.rpartition(":") for given in scaled for one in given.split(",")):
        try:
            found.append((path, float(scale)))
        except ValueError:
            sys.exit(f"error: --lora-scaled takes FILE:SCALE, not {path}:{scale}")
    for path, _ in found:
        if not os.path.isfile(path):  # which llama.cpp does not say
            sys.exit(f"error: there is no adapter {path}")
    return found


def main(args: list[str]) -> None:
    """Serves until standard input ends."""
    flags = parse(args)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()

    try:
        import xllamacpp
    except ImportError as error:  # os._exit: the thread above holds standard input
        print(f"error: the engine in the package cannot be loaded ({error}): pip install xllamacpp", file=sys.stderr)
        sys.stderr.flush()
        os._exit(LOAD_FAILED)

    settings = parameters(flags, xllamacpp)
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError:
        # once more, only to hear the reason
        settings.verbosity = VERBOSE
        with contextlib.suppress(OSError):
            os.unlink(flags.host)
        with contextlib.suppress(RuntimeError):
            xllamacpp.Server(settings)
        os._exit(LOAD_FAILED)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main(sys.argv[1:])
