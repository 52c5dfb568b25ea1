"""The engine that was built for this CPU beside the one in the package. See benchmarks/README.md."""
