"""The command line: one command per file, registered in `main.py`.

Modules import only typer and the standard library at the top; whatever is heavy is imported by the command
that needs it, so that `inhouse --help` stays quick.
"""
