"""First light: what the gateway adds to an engine, in time, processor and memory."""
