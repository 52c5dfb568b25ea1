"""What is changed in llama.cpp's source before it is compiled. Pure.

Its own threads (a build without OpenMP) meet after every operation, and whoever comes first waits for the others at
full speed, without end. Where a thread has been put off its core, by a neighbour or by a container's limit of CPU time,
the others burn the very time that it waits for. OpenMP's threads, in the engine of the package, sleep after a while;
with the edit these do so too.

Of a portable build only the back ends and what they share are libraries: each library made by zig has a C++ run time of
its own, so an exception that leaves one is not known in another, and llama-server throws many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """In one file of the source: a text that stands there once, and what stands there afterwards."""

    file: str
    old: str
    new: str


_SLEEPERS = """
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#define GGML_BARRIER_SPINS 10000
#else
#define GGML_BARRIER_SPINS 200000 // of a hint that takes a cycle or two
#endif
static atomic_int ggml_barrier_sleepers;

// counted before the value is looked at once more, by the kernel: either it has changed, or who changes it sees us
static void ggml_barrier_sleep(atomic_int * value, int seen) {
    atomic_fetch_add_explicit(&ggml_barrier_sleepers, 1, memory_order_seq_cst);
    syscall(SYS_futex, value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub_explicit(&ggml_barrier_sleepers, 1, memory_order_seq_cst);
}

static void ggml_barrier_wake(atomic_int * value) {
    if (atomic_load_explicit(&ggml_barrier_sleepers, memory_order_seq_cst) > 0) {
        syscall(SYS_futex, value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}
#else
#define GGML_BARRIER_SPINS INT_MAX
static void ggml_barrier_sleep(atomic_int * value, int seen) { (void) value; (void) seen; }
static void ggml_barrier_wake(atomic_int * value) { (void) value; }
#endif

"""
_ROOT = "CMakeLists.txt"
STATIC = "LLAMA_STATIC_ABOVE_GGML"
"""A setting of cmake that an edit makes: what uses the back ends is one program."""
_CPU = "ggml/src/ggml-cpu/ggml-cpu.c"
_BARRIER = "void ggml_barrier(struct ggml_threadpool * tp) {\n"
EDITS = (
    Edit(
        _ROOT,
        "add_subdirectory(src)\n",
        f"if ({STATIC})\n    set(BUILD_SHARED_LIBS OFF)\nendif()\nadd_subdirectory(src)\n",
    ),
    Edit(_CPU, _BARRIER, _SLEEPERS + _BARRIER),
    Edit(
        _CPU,
        """        atomic_fetch_add_explicit(&tp->n_barrier_passed, 1, memory_order_seq_cst);
        return;
""",
        """        atomic_fetch_add_explicit(&tp->n_barrier_passed, 1, memory_order_seq_cst);
        ggml_barrier_wake(&tp->n_barrier_passed);
        return;
""",
    ),
    Edit(
        _CPU,
        """    while (atomic_load_explicit(&tp->n_barrier_passed, memory_order_relaxed) == n_passed) {
        ggml_thread_cpu_relax();
    }
""",
        """    int spins = 0;
    while (atomic_load_explicit(&tp->n_barrier_passed, memory_order_relaxed) == n_passed) {
        if (spins++ < GGML_BARRIER_SPINS) {
            ggml_thread_cpu_relax();
        } else {
            ggml_barrier_sleep(&tp->n_barrier_passed, n_passed);
        }
    }
""",
    ),
)


def digest() -> str:
    """Of all edits: a build with others is another one."""
    return hashlib.sha256(repr(EDITS).encode()).hexdigest()[:12]


def edited(texts: Mapping[str, str]) -> dict[str, str] | None:
    """The files as they are compiled, by name; None where one is not the source that the edits were made for. What has
    been edited already stays as it is."""
    found = dict(texts)
    for edit in EDITS:
        text = found.get(edit.file, "")
        if text.count(edit.new) == 1:
            continue
        if text.count(edit.old) != 1:
            return None
        found[edit.file] = text.replace(edit.old, edit.new)
    return found
