"""The section of the stack about single keys: those that it declares, and limits of any key by its id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from inhouse.config.fields import ModelName, Section, choice_of, contradiction, setting
from inhouse.config.moments import parse_moment, render_moment
from inhouse.config.tenants import LimitsSpec, TenantName
from inhouse.core import ROLE_NAMES

KEY_ID_PATTERN = r"^[A-Za-z0-9._:@-]{1,128}$"
HASH_PATTERN = r"^sha256:[0-9a-f]{64}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
_TAKEN = re.compile(r"anonymous|static-\d+|oidc:.*")
_REFERENCES = ("hash", "from_env", "from_file")
_OF_DECLARED = ("tenant", "roles", "expires", "note")


def _key_id(name: str) -> str:
    if not re.fullmatch(KEY_ID_PATTERN, name):
        raise ValueError("not a key's id")
    return name


def _hash(text: str) -> str:
    if not re.fullmatch(HASH_PATTERN, text):
        raise ValueError("not what `inhouse keys hash` prints")  # the text itself may be a key by mistake
    return text


def _variable(name: str) -> str:
    if not re.fullmatch(VARIABLE_PATTERN, name):
        raise ValueError("not the name of a variable")
    if name.startswith("INHOUSE_") and name != "INHOUSE_API_KEY":
        raise ValueError("variables of that prefix are settings; choose another name")
    return name


def _roles(names: list[str]) -> list[str]:
    for name in names:
        if name not in ROLE_NAMES:
            raise ValueError(f"there is no role {name!r}; {choice_of(name, ROLE_NAMES)}")
    return names


def _moment(value: Any) -> Any:
    return None if value is None else render_moment(parse_moment(value))


KeyId = Annotated[str, AfterValidator(_key_id)]
KeyHash = Annotated[str | None, AfterValidator(lambda text: None if text is None else _hash(text))]
Variable = Annotated[str | None, AfterValidator(lambda name: None if name is None else _variable(name))]
Roles = Annotated[list[str], AfterValidator(_roles)]
Moment = Annotated[
    str | None, BeforeValidator(_moment), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
]


class KeySpec(Section):
    """One key, by any name: declared here with `hash`, `from_env` or `from_file`, or made by `inhouse keys create`.

    Of one that was made by a command, the id is the name (`inhouse keys list` shows it); models and limits hold beside
    those that it was made with.
    """

    hash: KeyHash = setting(
        None,
        "Declares the key: the hash of its text, as `inhouse keys hash` prints it.",
        example="sha256:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",
    )
    from_env: Variable = setting(
        None, "Declares the key: the environment variable that holds its text.", example="CI_KEY"
    )
    from_file: Path | None = setting(
        None, "Declares the key: the file that holds its text; a change of it holds within 2 s.", example="./ci.key"
    )
    tenant: TenantName = setting("default", "The tenant that a declared key belongs to.")
    roles: Roles = setting([], "Roles of a declared key; without any, `developer`.", example=["operator"])
    expires: Moment = setting(
        None, "When a declared key ends, as a date or time (UTC where no zone is given).", example="2027-01-31"
    )
    note: str = setting("", "What a declared key is for, shown in lists.", max_length=200)
    models: list[ModelName] = setting([], "Models that it may use; without any, all of its tenant's.", example=["chat"])
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="How much this key may use.")

    @property
    def declared(self) -> bool:
        """Whether it is a key of its own, and not only limits of one that was made by a command."""
        return any(getattr(self, name) is not None for name in _REFERENCES)

    @property
    def reference(self) -> str | None:
        """Where a declared key's text is, as shown in lists; never the hash itself."""
        if self.from_env is not None:
            return f"from_env {self.from_env}"
        return f"from_file {self.from_file}" if self.from_file is not None else "hash" if self.hash else None

    @model_validator(mode="after")
    def _declared_once_and_whole(self) -> Self:
        given = [name for name in _REFERENCES if getattr(self, name) is not None]
        if len(given) > 1:
            raise contradiction(
                (given[1],), f"`{given[0]}` and `{given[1]}` both say where this key's text is", "keep one of them"
            )
        fields = type(self).model_fields
        odd = [name for name in _OF_DECLARED if getattr(self, name) != fields[name].default]
        if odd and not given:
            raise contradiction(
                (odd[0],),
                f"`{odd[0]}` is for keys that are declared here, and this one is not",
                "add `hash`, `from_env` or `from_file`; a key made by `inhouse keys create` has its own",
            )
        if not self.note.isprintable():
            raise contradiction(("note",), "`note` has characters that cannot be printed", "keep it to one line")
        return self


def taken(name: str) -> bool:
    """Whether callers of another kind are shown under that name, so that no key can be declared with it."""
    return _TAKEN.fullmatch(name) is not None
