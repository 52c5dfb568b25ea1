"""Weights in 4 and 8 bits, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inhouse.hf_engine.asks import Sampling
from inhouse.hf_engine.batch import Batch
from inhouse.hf_engine.loading import load
from inhouse.hf_engine.rows import Wanted
from inhouse.hf_engine.settings import Settings


@pytest.mark.parametrize(("bits", "layer", "alike"), [("nf4", "Linear4bit", 0.7), ("int8", "Linear8bitLt", 0.97)])
def test_a_model_is_loaded_in_fewer_bits(wider: Path, bits: Any, layer: str, alike: float) -> None:
    """Its layers are bitsandbytes' own, and its scores those of the whole model, as near as such weights can be."""
    import torch

    full = load(Settings(wider, "tiny", threads=1))
    small = load(Settings(wider, "tiny", quantize=bits, threads=1))
    assert layer in {type(module).__name__ for module in small.model.modules()}
    prompt = torch.tensor([[7 + at for at in range(30)]])
    with torch.inference_mode():
        scores = [one.model(input_ids=prompt).logits.float().flatten() for one in (full, small)]
    assert float(torch.corrcoef(torch.stack(scores))[0, 1]) > alike
    batch = Batch(small)
    batch.begin([Wanted([9] * length, 5, Sampling(temperature=0)) for length in (3, 9)])
    batch.go_on()
    batch.step()
    assert [len(one.answer) for one in batch.said] == [2, 2]
