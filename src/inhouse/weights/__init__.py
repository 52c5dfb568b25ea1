"""Where models come from: one source line to a checked file on this machine, and what its header says."""
