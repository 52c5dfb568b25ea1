"""`python -m benchmarks.routing_real`."""

import sys

from benchmarks.routing_real.run import main

sys.exit(main())
