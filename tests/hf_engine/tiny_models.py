"""Models of a few thousand random weights, made in the test, in folders as save_pretrained writes them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

SPECIAL = ["<pad>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
END = 2
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if not loop.last or add_generation_prompt %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT_TOKENS = 65_536
"""Long enough that an answer ends when the test wants it to."""
_LETTERS = string.ascii_letters + string.digits + " .,!?'\n"
_TWO_BYTES = "éü"
"""Characters that are two tokens each, so that an answer may be cut in the middle of one."""


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    shown = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = sorted({piece for text in (_LETTERS, _TWO_BYTES) for piece in shown.pre_tokenize_str(text)[0][0]})
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = shown
    tokenizer.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        extra_special_tokens=SPECIAL[3:],
    )
    found.chat_template = TEMPLATE
    return found


def unreadable() -> list[int]:
    """Tokens that are no character of their own: a text with them in it does not become the same tokens again."""
    vocabulary = _tokenizer().get_vocab()
    return sorted(index for token, index in vocabulary.items() if token in SPECIAL or token in "Ãé©ü¼")


def _sizes(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT_TOKENS,
        "bos_token_id": 1,
        "eos_token_id": END,
        "pad_token_id": 0,
        "initializer_range": 0.3,
        **more,
    }


def llama(folder: Path, *, seed: int = 7, hidden: int = 32) -> Path:
    """Llama's architecture: keys and values of all tokens are kept."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    sizes = _sizes(tokenizer, num_key_value_heads=2, hidden_size=hidden, intermediate_size=2 * hidden)
    return _saved(folder, LlamaForCausalLM(LlamaConfig(**sizes)), tokenizer)


def gemma(folder: Path) -> Path:
    """Gemma 3's architecture: every second layer keeps the last 12 tokens only."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = _tokenizer()
    torch.manual_seed(7)
    kinds = ["sliding_attention", "full_attention"]
    sizes = _sizes(tokenizer, num_key_value_heads=2, head_dim=8, sliding_window=12, layer_types=kinds)
    return _saved(folder, Gemma3ForCausalLM(Gemma3TextConfig(**sizes)), tokenizer)


def mamba(folder: Path) -> Path:
    """Mamba's architecture: a state in place of keys and values, which rows cannot be laid beside."""
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(7)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    ids = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
    return _saved(folder, MambaForCausalLM(MambaConfig(**sizes, **ids, initializer_range=0.3)), tokenizer)


def bert(folder: Path) -> Path:
    """An encoder, with the file by which sentence-transformers says how its vectors are pooled."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = _tokenizer()
    torch.manual_seed(7)
    _saved(folder, BertModel(BertConfig(**_sizes(tokenizer))), tokenizer)
    pooling = folder / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def _saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
