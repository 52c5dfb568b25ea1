"""`python -m benchmarks.native_engine` is `run.main`."""

import sys

from benchmarks.native_engine.run import main

sys.exit(main())
