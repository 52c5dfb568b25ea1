"""The gateway of the one-pod form in the limits that its manifest sets: really held to them, really asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.one_pod.run import at_rest, manifest, running, under_load
from benchmarks.rig.errors import SkippedError

from fake_engine import fake_engine
from inhouse.deploy.tree import tree
from rendered import HERE, objects, site

STACK = HERE / "stacks" / "init-free-tier.yaml"


def test_what_the_free_tier_gives_the_gateway() -> None:
    """64 MB and ten millicores."""
    made = manifest(STACK)
    assert (made.memory_bytes, made.cpu_millicores) == (64_000_000, 10)


def test_it_lives_within_its_limits(tmp_path: Path) -> None:
    """A control group with the limit of the manifest, and no swap: a few streams with prompts of some kilobytes come
    whole, nothing is killed, and at rest it takes fewer millicores than it asks for."""
    made = manifest(STACK)
    try:
        with fake_engine(slots=4, tokens_per_s=400) as engine, running(made, engine.url, tmp_path) as one:
            load = under_load(one, streams=4, requests=40, tokens=32, prompt_bytes=4000)
            rest = at_rest(one, 5.0)
    except SkippedError as error:
        pytest.skip(str(error))  # not root, or no control groups: the benchmark says what it takes
    assert (load.whole, load.killed) == (40, 0)
    assert load.most_working_bytes < 0.9 * made.memory_bytes, load
    assert rest.millicores <= made.cpu_millicores, rest


def test_the_engine_outlives_the_gateway() -> None:
    """As a sidecar it gets its signal after the gateway has finished its streams; it listens on the loopback."""
    pod = next(one for one in objects(tree(site("init-free-tier"))) if one["kind"] == "Deployment")["spec"]["template"][
        "spec"
    ]
    assert [one["name"] for one in pod["containers"]] == ["gateway"]
    (engine,) = (one for one in pod["initContainers"] if one["name"] == "engine")
    assert engine["restartPolicy"] == "Always"
    assert engine["args"][engine["args"].index("--host") + 1] == "127.0.0.1"
    assert not {"ports", "lifecycle", "readinessProbe"} & set(engine)
