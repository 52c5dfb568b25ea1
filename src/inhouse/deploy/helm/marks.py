"""Actions of a template inside rendered YAML: marks stand in their place until all other text has been written.

A mark is a word that YAML, Kubernetes' names and the checks of the stack all let through. Text that is no mark and
looks like an action is written so that it comes out as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from inhouse.deploy.text import render

_MARK = r"helmmark\d{4}x"
_OPTIONAL = re.compile(rf"(?m)^( *)([^\s:]+): ({_MARK})$")
_WHOLE = re.compile(rf"(?m)((?:^|[ ])(?:- |[^\s#\"]+: ))({_MARK})(?=  # |$)")
_PLAIN = re.compile(rf"(?m)((?:^|[ ])(?:- |[^\s#\"]+: ))([A-Za-z0-9_./@+:-]*{_MARK}[A-Za-z0-9_./@+:-]*)(?=  # |$)")
_ANY = re.compile(_MARK)


@dataclass
class Marks:
    """The actions of one chart, each by its mark."""

    _actions: dict[str, str] = field(default_factory=dict)
    _optional: dict[str, str] = field(default_factory=dict)
    _made: int = 0

    def of(self, action: str) -> str:
        """A mark for an expression; it may be a value by itself, which may be anything, or a part of a text."""
        mark = self._next()
        self._actions[mark] = action
        return mark

    def optional(self, action: str) -> str:
        """As `of`, for the value of a key that is there only if the expression gives something."""
        mark = self._next()
        self._optional[mark] = f"with {action}"
        return mark

    def nullable(self, action: str) -> str:
        """As `optional`, where zero is something and only null is nothing."""
        mark = self._next()
        self._optional[mark] = f'if not (kindIs "invalid" {action})'
        self._actions[mark] = action
        return mark

    def stands_in(self, mark: str, value: Any) -> bool:
        """Whether a mark is anywhere in an object."""
        return mark in repr(value)

    def text(self, objects: Iterable[Any]) -> str:
        """The objects as the text of a template."""
        return self.actions(escaped(render(objects)))

    def actions(self, text: str) -> str:
        """The text with actions in place of marks."""
        text = _OPTIONAL.sub(self._with, text)
        text = _WHOLE.sub(lambda found: f"{found[1]}{{{{ {self._actions[found[2]]} | toJson }}}}", text)
        text = _PLAIN.sub(lambda found: f'{found[1]}"{found[2]}"', text)
        return _ANY.sub(lambda found: f"{{{{ {self._actions[found[0]]} }}}}", text)

    def plain(self, text: str, words: dict[str, str]) -> str:
        """The text with a word in place of each mark; by their actions."""
        return _ANY.sub(lambda found: words[self._actions[found[0]]], text)

    def _next(self) -> str:
        self._made += 1
        return f"helmmark{self._made:04d}x"

    def _with(self, found: re.Match[str]) -> str:
        indent, key, mark = found.groups()
        if mark not in self._optional:
            return found[0]
        value = self._actions.get(mark, ".")
        condition = f"{indent}{{{{- {self._optional[mark]} }}}}"
        return f"{condition}\n{indent}{key}: {{{{ {value} | toJson }}}}\n{indent}{{{{- end }}}}"


def escaped(text: str) -> str:
    """Text that a template gives back as it is."""
    return text.replace("{{", '{{ "{{" }}')


def conditional(text: str, condition: str) -> str:
    """One document, there only if the expression holds."""
    return f"{{{{- if {condition} }}}}\n---\n{text}{{{{- end }}}}\n"


def document(text: str) -> str:
    return f"---\n{text}"
