"""`python -m benchmarks.first_light` is `run.main`."""

import sys

from benchmarks.first_light.run import main

sys.exit(main())
