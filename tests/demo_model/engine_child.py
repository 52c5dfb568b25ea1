"""One engine as a child process: `engine_child.py MODEL`.

Prints its address as a JSON line; ends when its standard input does, and then with `os._exit`, because closing the
server in an orderly way may block on open streams.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # read once, when the engine's library is loaded

import xllamacpp


def serve(model: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx, parameters.n_parallel, parameters.port, parameters.ui = 8192, 4, 0, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 2
    parameters.cache_ram_mib = 0
    server = xllamacpp.Server(parameters)
    print(json.dumps({"address": server.listening_address}), flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
