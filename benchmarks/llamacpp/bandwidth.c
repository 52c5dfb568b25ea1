/* How fast memory can be read: each thread walks through a part of its own, several times; the best walk counts.
   Usage: bandwidth THREADS. Prints {"gb_per_s": …}. Parts are far larger than any cache. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define WALKS 6
#define TOTAL_BYTES ((size_t)1 << 30)
#define LANES 8
#define STEP 8

typedef uint64_t lanes __attribute__((vector_size(LANES * 8)));

static size_t part_lanes;
static lanes *memory;
static pthread_barrier_t together;
static volatile uint64_t sink;

static double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static void *walk(void *number) {
    const lanes *part = memory + (size_t)(uintptr_t)number * part_lanes;
    for (int turn = 0; turn < WALKS; turn++) {
        lanes sum[STEP] = {0};
        pthread_barrier_wait(&together);
        for (size_t at = 0; at < part_lanes; at += STEP)
            for (int k = 0; k < STEP; k++) sum[k] ^= part[at + k];
        pthread_barrier_wait(&together);
        for (int k = 0; k < STEP; k++) sink ^= sum[k][0] ^ sum[k][LANES - 1];
    }
    return NULL;
}

int main(int count, char **given) {
    int threads = count > 1 ? atoi(given[1]) : 0;
    if (threads < 1 || threads > 256) { fputs("usage: bandwidth THREADS, 1 to 256\n", stderr); return 2; }
    part_lanes = TOTAL_BYTES / sizeof(lanes) / threads / STEP * STEP;
    memory = mmap(NULL, TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) { perror("mmap"); return 1; }
    madvise(memory, TOTAL_BYTES, MADV_HUGEPAGE);
    for (size_t at = 0; at < TOTAL_BYTES / 8; at++) ((uint64_t *)memory)[at] = at * 0x9e3779b97f4a7c15u;
    pthread_barrier_init(&together, NULL, threads + 1);
    pthread_t *all = calloc(threads, sizeof *all);
    for (int k = 0; k < threads; k++)
        if (pthread_create(&all[k], NULL, walk, (void *)(uintptr_t)k)) { perror("thread"); return 1; }
    double best = 0;
    for (int turn = 0; turn < WALKS; turn++) {
        pthread_barrier_wait(&together);
        double began = now_s();
        pthread_barrier_wait(&together);
        double rate = (double)part_lanes * threads * sizeof(lanes) / (now_s() - began) / 1e9;
        if (rate > best) best = rate;
    }
    for (int k = 0; k < threads; k++) pthread_join(all[k], NULL);
    printf("{\"gb_per_s\": %.3f}\n", best);
    return 0;
}
