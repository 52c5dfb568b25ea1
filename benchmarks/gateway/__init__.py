"""The gateway with everything on, on one core, beside what else can stand before an engine."""
