"""A BERT in a folder of safetensors → a GGUF file that llama.cpp reads, as its own converter makes it: WordPiece
tokens, absolute positions, an encoder without a mask, and how the tokens' vectors become one. For a model that ranks,
its classifier as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def convert(
    folder: Path, file: Path, pooling: gguf.PoolingType = gguf.PoolingType.MEAN, *, exact: bool = False
) -> Path:
    """Writes `file`, matrices in 16 bits or `exact`. With `RANK` pooler and classifier of the folder are its head."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "bert")
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    if pooling == gguf.PoolingType.RANK:
        writer.add_classifier_output_labels(["score"])
    _vocabulary(writer, folder, config)
    for name, tensor in load_file(folder / "model.safetensors").items():
        known = _name(name.removeprefix("bert."), ranks=pooling == gguf.PoolingType.RANK)
        if known is not None:
            whole = exact or tensor.ndim == 1 or known.startswith(("token_types", "position_embd", "cls"))
            writer.add_tensor(known, tensor.astype(np.float32 if whole else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _vocabulary(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert len(words) == config["vocab_size"]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_token(word) for word in words])
    kinds = [gguf.TokenType.CONTROL if word in _SPECIAL else gguf.TokenType.NORMAL for word in words]
    writer.add_token_types(kinds)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_mask_token_id(words.index("[MASK]"))


def _token(word: str) -> str:
    """llama.cpp marks the beginning of a word, BERT what goes on with one."""
    if word in _SPECIAL or (word.startswith("[") and word.endswith("]")):
        return word
    return word[2:] if word.startswith("##") else "\u2581" + word


def _name(name: str, *, ranks: bool) -> str | None:
    where, _, kind = name.rpartition(".")
    if name.startswith("embeddings."):
        own = _EMBEDDINGS.get(where.removeprefix("embeddings."))
        return None if own is None else f"{own}.{kind}"
    if name.startswith("encoder.layer."):
        number, _, rest = where.removeprefix("encoder.layer.").partition(".")
        return f"blk.{number}.{_LAYER[rest]}.{kind}"
    if ranks and where == "pooler.dense":
        return f"cls.{kind}"
    if ranks and where == "classifier":
        return f"cls.output.{kind}"
    return None
