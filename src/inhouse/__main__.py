"""`python -m inhouse` is `inhouse`."""

from inhouse.cli.main import run

run()
