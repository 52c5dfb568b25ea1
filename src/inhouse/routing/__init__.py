"""Where a request goes: filters, scores and a pick over snapshots. Pure: no I/O, no clock, no randomness of its own."""
