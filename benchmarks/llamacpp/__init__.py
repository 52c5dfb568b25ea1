"""The embedded engine: alone, through the gateway, built for this CPU, beside peers. See benchmarks/README.md."""
