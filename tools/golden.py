"""Writes the trees on file anew (`make golden`), and the stacks of `inhouse init`: look at what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

from inhouse.config import load
from inhouse.deploy.compose.tree import compose
from inhouse.deploy.helm.chart import chart
from inhouse.deploy.profiles import PROFILES, text
from inhouse.deploy.site import Site
from inhouse.deploy.tree import tree
from inhouse.deploy.write import write

CHARTS = ("enterprise", "gpu-cluster", "kserve", "sidecar")
"""Of these stacks the charts are on file too."""
ONE_MACHINE = ("cpu", "init-gpu-team", "init-laptop", "one-machine")
"""Of these stacks the folders of Docker Compose are on file too."""
TESTS = Path(__file__).parents[1] / "tests" / "deploy"


def main() -> None:
    shutil.rmtree(TESTS / "golden", ignore_errors=True)
    for name in PROFILES:
        (TESTS / "stacks" / f"init-{name}.yaml").write_text(text(name))
    for path in sorted((TESTS / "stacks").glob("*.yaml")):
        site = Site(load(path, environ={}, flags={}))
        write(tree(site), TESTS / "golden" / path.stem)
        if path.stem in CHARTS:
            write(chart(site), TESTS / "golden" / "helm" / path.stem)
        if path.stem in ONE_MACHINE:
            write(compose(site), TESTS / "golden" / "compose" / path.stem)


if __name__ == "__main__":
    main()
