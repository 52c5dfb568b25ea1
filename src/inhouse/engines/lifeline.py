"""Runs a command that ends when its parent does: `python lifeline.py COMMAND ARG...`.

A program of its own, standard library only. The parent holds our standard input open; when it closes, in any way the
parent ends (kill -9 included), the command is killed. On Linux the kernel is asked for the same, in case this program
is the one that is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux: SIGKILL for this process as soon as its parent is gone. Elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Runs `command` until it ends (its status is returned) or standard input closes (killed, 0)."""
    die_with_parent()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def watch() -> None:
        sys.stdin.buffer.read()
        child.kill()
        child.wait()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
