"""Conversations in which tools are offered: a call and its result said aloud, or a question that needs no tool."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from chatml import Call, Conversation, Message
from corpus_files import Corpus, expand, lines
from noise import noisy, pseudo_word

LANGUAGES = ("German", "French", "Spanish", "Italian", "Polish", "Dutch", "Swedish", "Japanese")
JSON_TYPES = {"int": "integer", "float": "number"}


class ToolTalks:
    def __init__(self, corpus: Corpus, random: Random) -> None:
        self.corpus = corpus
        self.random = random
        self._weights = [tool.get("weight", 1) for tool in corpus.tools]
        self._cities = [city.strip() for city in corpus.extras["cities"].split("|")]
        self._names = corpus.extras["names"].split()
        self._words = corpus.extras["words"].split()

    def talk(self, plain_turn: Callable[[], list[Message]]) -> Conversation:
        """`plain_turn` makes question and answer without tools."""
        kinds = self._pick_kinds(self.random.choice((1, 1, 1, 2, 2, 3)))
        offered = [self._offer(kind) for kind in kinds]
        messages: list[Message] = []
        if self.random.random() < 0.15:
            messages += plain_turn()
        while True:
            if self.random.random() < 0.68:
                place = self.random.randrange(len(kinds))
                messages += self._used(kinds[place], *offered[place])
            else:
                messages += plain_turn()
            if self.random.random() < 0.8:
                break
        order = list(range(len(kinds)))
        self.random.shuffle(order)
        return Conversation(tuple(messages), tuple(self._signature(kinds[place], *offered[place]) for place in order))

    def question_without_tool(self) -> tuple[str, str]:
        """A question that only a tool could answer, and the refusal."""
        kind = self.random.choice([kind for kind in self.corpus.tools if "without_tool" in kind])
        refusals = self.corpus.refusals
        answer = refusals.unable if kind["without_tool"] == "unable" else refusals.unknown
        return self._question(kind, [self._value(argument["kind"]) for argument in kind["arguments"]]), answer

    def _pick_kinds(self, count: int) -> list[dict[str, Any]]:
        kinds: list[dict[str, Any]] = []
        while len(kinds) < count:
            kind = self.random.choices(self.corpus.tools, self._weights)[0]
            if kind not in kinds:
                kinds.append(kind)
        return kinds

    def _offer(self, kind: dict[str, Any]) -> tuple[str, list[str]]:
        """A name for the tool and for each of its parameters."""
        made_up = kind["names"] == ["random"] or self.random.random() < 0.15
        name = self._made_up() if made_up else self.random.choice(kind["names"])
        parameters = [
            pseudo_word(self.random) if argument["names"] == ["random"] else self.random.choice(argument["names"])
            for argument in kind["arguments"]
        ]
        return name, parameters

    def _made_up(self) -> str:
        form = self.random.choice(("{}", "{}_{}", "get_{}", "do_{}"))
        return form.format(pseudo_word(self.random), pseudo_word(self.random))

    def _used(self, kind: dict[str, Any], name: str, parameters: list[str]) -> list[Message]:
        values = [self._value(argument["kind"]) for argument in kind["arguments"]]
        question = self._question(kind, values).replace("{tool}", name)
        call = Message("assistant", calls=(Call(name, dict(zip(parameters, values, strict=True))),))
        messages = [Message("user", question), call]
        if self.random.random() < 0.6:
            result = self._result(kind, values)
            said = result if result.endswith((".", "}")) else result + "."
            messages += [Message("tool", result), Message("assistant", f"The tool says: {said}")]
            if self.random.random() < 0.2:
                thanks = next(topic for topic in self.corpus.topics if topic.id == "thanks")
                said_thanks = noisy(self.random.choice(thanks.asks), self.random)
                messages += [Message("user", said_thanks), Message("assistant", thanks.answer)]
        return messages

    def _question(self, kind: dict[str, Any], values: list[Any]) -> str:
        question = self.random.choice(expand(self.random.choice(lines(kind["ask"]))))
        for place, value in enumerate(values):
            question = question.replace(f"{{{place}}}", str(value))
        question = question[:1].upper() + question[1:] if self.random.random() < 0.5 else question
        return question + self.random.choice(("?", "?", "", "", ".", " please"))

    def _result(self, kind: dict[str, Any], values: list[Any]) -> str:
        if self.random.random() < 0.15:
            return self._value("phrase")
        text: str = self.random.choice(kind["results"])
        for place, value in enumerate(values):
            text = text.replace(f"{{{place}}}", str(value))
        while "{int}" in text:
            text = text.replace("{int}", str(self._value("int")), 1)
        return text.replace("{phrase}", self._value("phrase"))

    def _value(self, kind: str) -> Any:
        random = self.random
        match kind:
            case "city":
                return random.choice(self._cities) if random.random() < 0.7 else pseudo_word(random).capitalize()
            case "name":
                return random.choice(self._names) if random.random() < 0.7 else pseudo_word(random).capitalize()
            case "word":
                return random.choice((pseudo_word(random), pseudo_word(random).upper(), random.choice(self._words)))
            case "int":
                return random.choice((random.randint(1, 30), random.randint(1, 99), random.randint(1, 999)))
            case "file":
                return random.choice(self._words) + random.choice((".txt", ".md", ".csv", ".log", ".yaml", ".py"))
            case "language":
                return random.choice(LANGUAGES)
            case _:
                return " ".join(
                    random.choice(self._words) if random.random() < 0.75 else pseudo_word(random)
                    for _ in range(random.randint(1, 4))
                )

    def _signature(self, kind: dict[str, Any], name: str, parameters: list[str]) -> dict[str, Any]:
        """As clients send it: with or without descriptions, `required` and extra parameters."""
        random = self.random
        described = random.random() < 0.5
        properties: dict[str, Any] = {}
        for parameter, argument in zip(parameters, kind["arguments"], strict=True):
            properties[parameter] = {"type": JSON_TYPES.get(argument["kind"], "string")}
            if described and random.random() < 0.6:
                about = random.choice((f"The {parameter}", parameter.capitalize(), f"{parameter} to use"))
                properties[parameter]["description"] = about
        for extra in kind.get("extra", ()):
            if random.random() < 0.2:
                properties[random.choice(extra["names"])] = (
                    {"type": "string", "enum": extra["enum"]} if "enum" in extra else {"type": "integer"}
                )
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if random.random() < 0.7:
            schema["required"] = list(parameters)
        if random.random() < 0.2:
            schema["additionalProperties"] = False
        function: dict[str, Any] = {"name": name}
        about = random.choice(kind["about"])
        if about:
            function["description"] = about + random.choice(("", "."))
        function["parameters"] = schema
        return {"type": "function", "function": function}
