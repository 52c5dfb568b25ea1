"""`inhouse`: runs a command (`commands`); the one place where a failure becomes a message and an exit code.

Exit codes: 0 done, 1 failed, 2 used wrongly (flags, variables, `inhouse.yaml`), 75 weights that cannot be reached just
now, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import NoReturn

from inhouse.cli.commands import COMMANDS, app_of
from inhouse.errors import InhouseError


def run() -> NoReturn:
    """The entry point: runs the command that the arguments name, and leaves with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another time shows ? instead of ending the program
    try:
        called = sys.argv[1:2]
        app_of(called if called and called[0] in COMMANDS else COMMANDS)(prog_name="inhouse")
    except InhouseError as error:
        from inhouse.cli.failure import tell

        tell(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
