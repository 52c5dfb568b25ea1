"""What a real llama.cpp holds after use, against what is predicted: a few shapes, large enough to tell, used briefly.
`python -m benchmarks.memory` measures many more, and uses all of their context."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.memory.cases import Case
from benchmarks.memory.measure import measure
from benchmarks.memory.shapes import Shape

OFF_MAX = 0.05

CASES = (
    Case(Shape("16 bits", recipe="f16", kv_heads=4, layers=5), context=512, slots=1),
    Case(Shape("4 bits, repacked", recipe="q4_0", kv_heads=4, layers=6, vocabulary=32768), context=512, slots=1,
         embeddings=False),
    Case(Shape("8-bit cache of 8 slots", layers=4), context=4096, slots=8, used=80,
         args=("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")),
    Case(Shape("windows", "gemma3", window=256, layers=6, heads=4, kv_heads=2, head_length=256), context=512, slots=1),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_predicted_against_measured(case: Case, tmp_path: Path) -> None:
    """Within 5 % of what the process holds."""
    found = measure(case, tmp_path)
    assert found.loaded <= found.used
    assert found.ratio == pytest.approx(1.0, abs=OFF_MAX), found
