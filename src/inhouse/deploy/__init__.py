"""From a stack to the files that put it on a cluster: pure, one file per artefact, the same bytes every time."""
