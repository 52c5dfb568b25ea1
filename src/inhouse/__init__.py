"""inhouse: serve, govern and grow your own language models."""

__version__ = "0.1.0"
