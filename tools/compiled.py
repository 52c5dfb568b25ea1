"""A virtual environment whose inhouse is the wheel with the compiled hot path, and all else what this Python has.

usage: python tools/compiled.py FOLDER

Compiling takes about a minute and a half, a C compiler and Python's headers; 3 is the status where those are not here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def lack() -> str:
    """What is missing here for compiling; "" where nothing is."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        return "a C compiler"
    return "" if Path(sysconfig.get_path("include"), "Python.h").exists() else "the headers of Python"


def make(folder: Path) -> Path:
    """Its Python. Raises CalledProcessError where compiling failed; the compiler has said why."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work, "source")
        source.mkdir()  # a copy: the hook moves pyproject.toml away while it compiles
        shutil.copytree(PROJECT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(PROJECT / name, source)
        wheels = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", work, str(source)]
        subprocess.run(wheels, env=os.environ | {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}, check=True)
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "inhouse")
    (packages,) = folder.glob("lib/python3*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "compiled.pth").write_text("\n".join([str((folder / "inhouse").resolve()), *others, ""]))
    return folder / "bin" / "python"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asked = Path(sys.argv[1])
    if asked.is_dir() and any(asked.iterdir()) and not (asked / "pyvenv.cfg").exists():
        sys.exit(f"{asked} is not empty and no virtual environment; name another folder")
    if lack():
        print(f"nothing can be compiled without {lack()}; the package works as it is", file=sys.stderr)
        sys.exit(3)
    try:
        print(make(asked))
    except subprocess.CalledProcessError as error:
        sys.exit(f"it was not compiled: {error.cmd[2]} ended with {error.returncode}")
