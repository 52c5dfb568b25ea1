"""`python -m benchmarks.gateway` is `run.main`."""

import sys

from benchmarks.gateway.run import main

sys.exit(main())
