"""`python -m benchmarks.transformers_engine`."""

import sys

from benchmarks.transformers_engine.run import main

sys.exit(main())
