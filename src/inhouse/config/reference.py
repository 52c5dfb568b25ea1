"""Writes docs/reference/config.md: `python -m inhouse.config.reference > docs/reference/config.md`."""

from __future__ import annotations

import re
import sys

from inhouse.config.catalog import ANY_NAME, Setting, sections, settings
from inhouse.config.environment import RESERVED

HEAD = """\
# The stack: `inhouse.yaml`

Every key of the one file that describes a stack, with its type and unit, its default and what it means.
This page is generated from `src/inhouse/config/stack.py`.

A value is taken from the file, then from the environment, then from flags; the later wins.
The file is the one named by `--config`, else by `INHOUSE_CONFIG`, else `inhouse.yaml` in the current folder.
Without a file, `inhouse serve` serves the model `demo`.
`inhouse config check` finds mistakes, `inhouse config show` prints what is in force and where each value came from,
`inhouse config schema` prints a JSON Schema for editors.

```yaml
# yaml-language-server: $schema=./inhouse.schema.json
models:
  chat:
    source: ./gemma-3-1b-it-Q4_K_M.gguf
    slots: 8
gateway: {port: 9000, request_bytes_max: 16 MiB}
```

- Sizes: a number of bytes, or a number with B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000).
- Durations: a number of seconds, or numbers with ms, s, min, h, d, as in `1 h 30 min`.
- Amounts of money: a number with at most six decimals, in the stack's `currency`.
- A relative path in a file starts at the file's folder, anywhere else at the current one.
- Unknown and repeated keys are refused.
"""

ENVIRONMENT = """\
## Environment

Each key has a variable: `INHOUSE_`, then the keys in capitals with two underscores between, as in
`INHOUSE_GATEWAY__PORT=9000`. For a model, tenant or key, its name in capitals with `_` for whatever is no letter or
digit: `INHOUSE_MODELS__GEMMA_3_1B__SLOTS=2`. A list is `[a, b]` or words with spaces between. An empty variable counts
as not set; an unknown one is refused (those that Kubernetes adds for a Service called `inhouse` are passed over).

These are no keys of the stack:

| variable | meaning |
|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, section in sections().items():
        if not path:
            continue
        title = ".".join("NAME" if part == ANY_NAME else part for part in path)
        rows = [setting for setting in settings() if setting.path[:-1] == path]
        parts.append(f"## `{title}`\n\n{(section.__doc__ or '').strip()}\n\n{_table(rows)}")
    parts.append("## At the top\n\n" + _table([setting for setting in settings() if len(setting.path) == 1]))
    parts.append(ENVIRONMENT + "".join(f"| `{name}` | {meaning} |\n" for name, meaning in RESERVED.items()))
    return "\n".join(parts)


def _table(rows: list[Setting]) -> str:
    head = "| key | type and unit | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| `{row.path[-1]}` | {_type(row)} | {_default(row)} | {row.sentence} |\n" for row in rows)


def _type(row: Setting) -> str:
    words = re.sub(
        r" such as \[a, b\]| such as 8 MiB| such as 30 s, 500 ms or 2 min|^an? | such as 0\.15", "", row.form
    )
    return f"{words} ({row.unit})" if row.unit and row.kind == "number" else words


def _default(row: Setting) -> str:
    if row.required:
        return "must be given"
    if row.default is None:
        return "none"
    value = row.render(row.default)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
