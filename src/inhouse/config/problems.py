"""Mistakes in a stack, as told to a person: where, what, and the way out. Gathered first, raised together."""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.errors import StackError

NO_LINE = 1_000_000
"""Mistakes without a line are told after those with one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `where` is `file:line`, a variable or a flag; `order` is the line, for sorting."""

    message: str
    where: str | None = None
    hint: str | None = None
    order: int = NO_LINE


class StackProblems(StackError):
    """Several mistakes at once; `problems` has each, the message all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        lines = [f"{len(problems)} problems"]
        for problem in problems:
            lines.append(f"{problem.where}: {problem.message}" if problem.where else problem.message)
            if problem.hint:
                lines.append(f"    {problem.hint}")
        super().__init__("\n".join(lines), where=problems[0].where)
        self.problems = problems


def stack_error(problems: list[Problem]) -> StackError:
    """The error for these problems (at least one), in reading order; a single one is a plain `StackError`."""
    unique = tuple(dict.fromkeys(sorted(problems, key=lambda problem: problem.order)))
    if len(unique) == 1:
        return StackError(unique[0].message, where=unique[0].where, hint=unique[0].hint)
    return StackProblems(unique)
