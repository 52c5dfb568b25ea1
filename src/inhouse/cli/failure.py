"""How a command that failed says so: `error:` and `hint:` on standard error, no traceback where one can mend it."""

from __future__ import annotations

from inhouse.errors import InhouseError, StackError


def tell(error: InhouseError) -> None:
    """Prints the error; several mistakes in a stack one by one."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    for where, message, hint in parts(error):
        console.print("error: ", style="bold red", end="")
        console.print(f"{where}: {message}" if where else message)
        if hint:
            console.print("  hint: ", style="bold", end="")
            console.print(hint)


def parts(error: InhouseError) -> list[tuple[str | None, str, str | None]]:
    """Place, message and hint of each mistake in the error."""
    if isinstance(error, StackError):
        from inhouse.config.problems import StackProblems

        if isinstance(error, StackProblems):
            return [(problem.where, problem.message, problem.hint) for problem in error.problems]
        return [(error.where, error.message, error.hint)]
    return [(None, error.message, error.hint)]
