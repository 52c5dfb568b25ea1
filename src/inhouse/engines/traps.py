"""Traps that several engines share. They stand in the engines' rows; documents and `config check` show them."""

from __future__ import annotations

from inhouse.engines.engine import Trap

SHARED_MEMORY = Trap(
    "split over several GPUs it needs a large /dev/shm: in a container, a memory-backed volume of 8 GiB or more there",
    lambda spec: spec.gpus > 1,
)
NCCL = Trap(
    "split over several GPUs a slow start can look like a dead one: raise NCCL_TIMEOUT, in seconds, above the time "
    "that loading takes",
    lambda spec: spec.gpus > 1,
)
CORES = Trap(
    "fewer than 8 CPU cores leave a GPU waiting: give it 8 or more",
    lambda spec: spec.threads is not None and spec.threads < 8,
)
MEMORY_SHARE = Trap(
    "more than 92 % of a GPU's memory leaves no room for what CUDA itself takes: it dies at its start",
    lambda spec: spec.gpu_share > 0.92,
)
LOOPBACK = Trap("it cannot listen on a unix socket: who may log in to this machine can call it, past keys and quotas")
