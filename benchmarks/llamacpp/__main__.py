"""`python -m benchmarks.llamacpp` is `run.main`."""

import sys

from benchmarks.llamacpp.run import main

sys.exit(main())
