"""`python -m benchmarks.stores` is `run.main`."""

import sys

from benchmarks.stores.run import main

sys.exit(main())
