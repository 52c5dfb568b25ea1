"""Runs a command that ends when its parent does: `python lifeline.py STOP_S COMMAND ARG...`.

A program of its own, standard library only. The parent holds our standard input open; when it closes, in any way the
parent ends (kill -9 included), the command is asked to end, and after STOP_S seconds it is killed with all that it
started. On Linux the kernel is asked to kill it should this program be the one that is killed. What a command leaves
behind that ended by itself (workers of an engine) is killed as well.
"""

import contextlib
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


def main(stop_s: float, command: list[str]) -> int:
    """Runs `command` until it ends (its status is returned) or standard input closes (stopped, 0)."""
    # not die_with_parent() for us: whoever is killed with its parent cannot end what the command has started
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, process_group=0)

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the latter for one that has ended
            os.killpg(child.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):  # not by the file object, whose lock would be held when the program ends
            pass
        if stop_s > 0:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(stop_s)
        kill()
        child.wait()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    kill()
    if status < 0:  # so that our parent sees how it ended
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))
