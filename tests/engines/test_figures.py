"""What the pages of each engine come to, by old and new names; what is not there stays unknown."""

from __future__ import annotations

import metrics_pages as pages
import pytest

from inhouse.engines.figures import NOTHING, Figures, look, stale
from inhouse.engines.table import ENGINES

CASES = [
    ("vllm", pages.VLLM, Figures(7, 2, 0.4275, 0.25, 0.25, 0.02, 9.0)),
    ("vllm", pages.VLLM_OLD, Figures(3, 0, 0.9, None, None, 0.04, 9.0)),
    ("vllm", pages.VLLM_TWO_ENGINES, Figures(7, 1, 0.75, None, None, None, 9.0)),
    ("llama-server", pages.LLAMA, Figures(2, 1, None, None, None, 0.025, 9.0)),
    ("llamacpp", pages.LLAMA_OLD, Figures(2, 1, 0.5, None, None, 0.025, 9.0)),
    ("sglang", pages.SGLANG, Figures(5, 4, 0.28, 0.6, 0.25, None, 9.0)),
    ("tgi", pages.TGI, Figures(12, 3, None, None, None, 0.035, 9.0)),
    ("tensorrt-llm", pages.TENSORRT, Figures(6, 0, 0.125, 0.5, 0.25, None, 9.0)),
    ("tensorrt-llm", pages.TENSORRT_OLD, Figures(6, 0, 0.125, 0.5, 0.25, None, 9.0)),
]


@pytest.mark.parametrize(("kind", "page", "figures"), CASES)
def test_a_page_of_each_engine(kind: str, page: bytes, figures: Figures) -> None:
    """Each figure that it has, and None for each that it lacks."""
    found = look(page, ENGINES[kind].names, NOTHING, 9.0)
    assert found is not None
    assert found.figures == figures
    assert not found.restarted


def test_a_page_of_another_engine() -> None:
    """Says nothing, which is not the same as an idle engine."""
    assert look(pages.TGI, ENGINES["vllm"].names, NOTHING, 9.0) is None
    assert look(b"", ENGINES["vllm"].names, NOTHING, 9.0) is None
    assert look(b"process_start_time_seconds 1\n", ENGINES["vllm"].names, NOTHING, 9.0) is None


def test_two_pages() -> None:
    """Means are those of the time between them; while nothing happened, the last ones hold."""
    names = ENGINES["vllm"].names
    first = look(pages.VLLM, names, NOTHING, 1.0)
    assert first is not None
    later = (
        pages.VLLM.replace(b'_count{engine="0",model_name="Qwen/Qwen3-8B"} 100.0', b"_count{} 110.0")
        .replace(b'seconds_sum{engine="0",model_name="Qwen/Qwen3-8B"} 25.0', b"seconds_sum{} 45.0")
        .replace(b"} 20000.0", b"} 21000.0")
        .replace(b"} 5000.0", b"} 5900.0")
    )
    second = look(later, names, first, 2.0)
    assert second is not None
    assert second.figures.ttft_s == pytest.approx(2.0)
    assert second.figures.prefix_hits == pytest.approx(0.9)
    assert second.figures.tpot_s == pytest.approx(0.02)
    third = look(later, names, second, 3.0)
    assert third is not None
    assert (third.figures.ttft_s, third.figures.prefix_hits) == (second.figures.ttft_s, second.figures.prefix_hits)


@pytest.mark.parametrize("change", [(b"1.76399011227e+09", b"1.76399019999e+09"), (b"} 20000.0", b"} 10.0")])
def test_an_engine_that_was_started_anew(change: tuple[bytes, bytes]) -> None:
    """Another time of start, or a counter that fell, is another life: its means begin anew."""
    names = ENGINES["vllm"].names
    first = look(pages.VLLM, names, NOTHING, 1.0)
    assert first is not None
    second = look(pages.VLLM.replace(*change), names, first, 2.0)
    assert second is not None
    assert second.restarted
    again = look(pages.VLLM.replace(*change), names, second, 3.0)
    assert again is not None
    assert not again.restarted


def test_an_endpoint_that_is_lost() -> None:
    """What it reported is unknown again, and a restart in between is still seen."""
    names = ENGINES["vllm"].names
    first = look(pages.VLLM, names, NOTHING, 1.0)
    assert first is not None
    gone = stale(first)
    assert gone.figures == Figures()
    back = look(pages.VLLM.replace(b"1.76399011227e+09", b"1.8e+09"), names, gone, 5.0)
    assert back is not None
    assert back.restarted


@pytest.mark.parametrize("value", [b"NaN", b"-Inf", b"nonsense"])
def test_a_gauge_without_a_number(value: bytes) -> None:
    page = b"vllm:num_requests_running %b\nvllm:num_requests_waiting 1\n" % value
    found = look(page, ENGINES["vllm"].names, NOTHING, 1.0)
    assert found is not None
    assert (found.figures.running, found.figures.waiting) == (None, 1)
