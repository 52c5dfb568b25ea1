"""`python -m benchmarks.long_prompts`."""

import sys

from benchmarks.long_prompts.run import main

sys.exit(main())
