"""A stand-in for an engine: speaks like one, takes as long as one, fails as told."""
