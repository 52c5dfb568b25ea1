"""The tokenizer: byte-level BPE learned from the corpus itself, cut into words as llama.cpp's `gpt-2` does."""

from __future__ import annotations

from collections.abc import Iterable

from chatml import BEGIN, END, TAGS, VOID
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """Numbers up to 200 become tokens of their own, so that counting is one step per number."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(TAGS),
        special_tokens=[VOID, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    if tokenizer.get_vocab_size() != size:
        raise ValueError(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {size}")
    return tokenizer
