"""`python -m benchmarks.memory`."""

import sys

from benchmarks.memory.run import main

sys.exit(main())
