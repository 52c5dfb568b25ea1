"""Writes what `train.py` left as a GGUF file in Q8_0 that llama.cpp can serve.

python export.py ../../src/inhouse/weights/demo.gguf
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from chatml import END, TAGS, TEMPLATE, VOID
from model import Shape
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

OUT = Path(__file__).parent / "out"
DESCRIPTION = "An honest toy with about 5 million parameters, trained from scratch for short questions about inhouse."


def main() -> None:
    arguments = argparse.ArgumentParser(description="Write the demo model as GGUF.")
    arguments.add_argument("gguf", type=Path)
    arguments.add_argument("--out", type=Path, default=OUT, help="the folder that train.py wrote")
    given = arguments.parse_args()
    kept = torch.load(given.out / "model.pt")
    half_written = given.gguf.with_suffix(".part")  # engines map the file: it is replaced, never rewritten under them
    write(half_written, Shape(**kept["shape"]), kept["weights"], Tokenizer.from_file(str(given.out / "tokenizer.json")))
    half_written.replace(given.gguf)
    print(f"{given.gguf}: {given.gguf.stat().st_size / 1e6:.2f} MB")


def write(path: Path, shape: Shape, weights: dict[str, Tensor], tokenizer: Tokenizer) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    add_description(writer, shape)
    add_tokenizer(writer, tokenizer)
    for name, tensor in tensors(shape, weights):
        array = np.ascontiguousarray(tensor.float().numpy())
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, quantised(array), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_description(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("demo")
    writer.add_description(DESCRIPTION)
    writer.add_license("apache-2.0")
    writer.add_license_name("Apache-2.0")
    writer.add_size_label("5M")
    writer.add_languages(["en"])
    writer.add_sampling_temp(0.2)
    writer.add_sampling_top_k(20)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.dim // shape.heads)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """The tags of tool calls are text that happens to be one token, so they are shown; the others are control."""
    described: dict[str, Any] = json.loads(tokenizer.to_str())
    added = {token["content"] for token in described["added_tokens"]}
    tokens = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    kinds = dict.fromkeys(added, gguf.TokenType.CONTROL) | dict.fromkeys(TAGS, gguf.TokenType.USER_DEFINED)
    types = [kinds.get(token, gguf.TokenType.NORMAL) for token in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.token_to_id(VOID))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_pad_token_id(tokenizer.token_to_id(VOID))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def tensors(shape: Shape, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The network's tensors under llama.cpp's names. There is no `output`: it is tied to the embedding."""
    yield "token_embd.weight", weights["token_embd.weight"]
    yield "output_norm.weight", weights["output_norm.weight"]
    for layer in range(shape.layers):
        ours, theirs = f"blocks.{layer}", f"blk.{layer}"
        for name in ("attn_norm", "attn_output", "ffn_norm", "ffn_down"):
            yield f"{theirs}.{name}.weight", weights[f"{ours}.{name}.weight"]
        for name, part in zip(("attn_q", "attn_k", "attn_v"), weights[f"{ours}.attn_qkv.weight"].chunk(3), strict=True):
            yield f"{theirs}.{name}.weight", part
        for name, part in zip(("ffn_gate", "ffn_up"), weights[f"{ours}.ffn_gate_up.weight"].chunk(2), strict=True):
            yield f"{theirs}.{name}.weight", part


def quantised(array: NDArray[np.float32]) -> NDArray[np.uint8]:
    return gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)


if __name__ == "__main__":
    main()
