"""The stack on one machine, by Docker Compose: one pure file per part."""
