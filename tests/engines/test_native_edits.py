"""What is changed in llama.cpp's source: where it stands once it is made, and that threads that wait then sleep."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from inhouse.engines.native_edits import EDITS, edited

FILE = EDITS[1].file
ROOT = "CMakeLists.txt"
CMAKE = "add_subdirectory(ggml)\nadd_subdirectory(src)\nadd_subdirectory(common)\n"
# ggml_barrier of b11549, and around it as little as it takes to compile
SOURCE = """
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define GGML_THREADPOOL_N_THREADS_MASK (0xffffU)
struct ggml_threadpool { atomic_int n_graph; atomic_int n_barrier; atomic_int n_barrier_passed; };
static inline void ggml_thread_cpu_relax(void) { __asm__ volatile("" ::: "memory"); }

void ggml_barrier(struct ggml_threadpool * tp) {
    int n_threads = atomic_load_explicit(&tp->n_graph, memory_order_relaxed) & GGML_THREADPOOL_N_THREADS_MASK;
    if (n_threads == 1) {
        return;
    }

    int n_passed = atomic_load_explicit(&tp->n_barrier_passed, memory_order_relaxed);

    // enter barrier (full seq-cst fence)
    int n_barrier = atomic_fetch_add_explicit(&tp->n_barrier, 1, memory_order_seq_cst);

    if (n_barrier == (n_threads - 1)) {
        // last thread
        atomic_store_explicit(&tp->n_barrier, 0, memory_order_relaxed);

        // exit barrier (full seq-cst fence)
        atomic_fetch_add_explicit(&tp->n_barrier_passed, 1, memory_order_seq_cst);
        return;
    }

    // wait for other threads
    while (atomic_load_explicit(&tp->n_barrier_passed, memory_order_relaxed) == n_passed) {
        ggml_thread_cpu_relax();
    }
    atomic_thread_fence(memory_order_seq_cst);
}
"""
PROGRAM = """
#define THREADS 3
#define ROUNDS 4000
static struct ggml_threadpool pool;
static atomic_int reached[ROUNDS], wrong;

static void nap(long ns) { struct timespec t = {0, ns}; nanosleep(&t, NULL); }

static void * work(void * number) {
    unsigned seed = (unsigned) (size_t) number;
    for (int round = 0; round < ROUNDS; round++) {
        if (rand_r(&seed) % 16 == 0) nap(rand_r(&seed) % 200000);
        atomic_fetch_add(&reached[round], 1);
        ggml_barrier(&pool);
        if (atomic_load(&reached[round]) != THREADS) atomic_fetch_add(&wrong, 1);
    }
    if (number == 0) nap(400000000);
    ggml_barrier(&pool);
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return NULL;
}

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(void) {
    pthread_t all[THREADS];
    atomic_store(&pool.n_graph, THREADS);
    for (size_t k = 0; k < THREADS; k++) pthread_create(&all[k], NULL, work, (void *) k);
    while (atomic_load(&reached[ROUNDS - 1]) < THREADS) nap(1000000);
    double before = cpu_s();
    for (int k = 0; k < THREADS; k++) pthread_join(all[k], NULL);
    printf("{\\"wrong\\": %d, \\"waiting_cpu_s\\": %.3f}\\n", atomic_load(&wrong), cpu_s() - before);
    return 0;
}
"""


def compiled_and_run(folder: Path, source: str) -> dict[str, float]:
    (folder / "barrier.c").write_text(source + PROGRAM)
    program = folder / "barrier"
    command = ["gcc", "-O2", "-Wall", "-Werror", "-pthread", "-o", str(program), str(folder / "barrier.c")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    done = subprocess.run([str(program)], check=True, capture_output=True, text=True, timeout=60)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_threads_that_wait_sleep_and_none_is_forgotten(tmp_path: Path) -> None:
    """Nobody passes before all have come, nobody stays behind; while one is late by 0.4 s the others use nothing."""
    made = edited({FILE: SOURCE, ROOT: CMAKE})
    assert made is not None
    found = compiled_and_run(tmp_path, made[FILE])
    assert found["wrong"] == 0
    assert found["waiting_cpu_s"] < 0.1


def test_edits_are_made_once() -> None:
    """A build that goes on finds its source edited."""
    once = edited({FILE: SOURCE, ROOT: CMAKE})
    assert once is not None
    assert edited(once) == once


@pytest.mark.parametrize("texts", [{}, {FILE: "int main(void) { return 0; }"}, {FILE: SOURCE + SOURCE}])
def test_another_source_is_left_alone(texts: dict[str, str]) -> None:
    """No file, other text, or a text that stands there twice."""
    assert edited(texts) is None


def test_only_what_back_ends_share_is_a_library() -> None:
    """From the program's own parts on, and only where the setting is given."""
    made = edited({FILE: SOURCE, ROOT: CMAKE})
    assert made is not None
    ggml, _, rest = made[ROOT].partition("if (LLAMA_STATIC_ABOVE_GGML)")
    assert ggml == "add_subdirectory(ggml)\n"
    assert rest.splitlines() == ["", "    set(BUILD_SHARED_LIBS OFF)", "endif()", *CMAKE.splitlines()[1:]]
