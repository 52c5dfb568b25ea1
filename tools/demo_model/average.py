"""Averages the weights of several runs of one training: `python average.py OUT RUN=WEIGHT RUN=WEIGHT ...`.

Runs that go on from one another differ in what they did best; their average is steadier than the last of them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch


def main() -> None:
    arguments = argparse.ArgumentParser(description="Average the weights of several runs.")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("runs", nargs="+", metavar="RUN=WEIGHT", help="a folder that train.py wrote, and its share")
    given = arguments.parse_args()
    shares = [(Path(folder), float(weight)) for folder, weight in (run.rsplit("=", 1) for run in given.runs)]
    total = sum(weight for _, weight in shares)
    states = [(torch.load(folder / "model.pt"), weight / total) for folder, weight in shares]
    averaged = {
        name: sum(state["weights"][name] * weight for state, weight in states) for name in states[0][0]["weights"]
    }
    given.out.mkdir(parents=True, exist_ok=True)
    torch.save({"shape": states[0][0]["shape"], "weights": averaged}, given.out / "model.pt")
    shutil.copy(shares[0][0] / "tokenizer.json", given.out / "tokenizer.json")


if __name__ == "__main__":
    main()
