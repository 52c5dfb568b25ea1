"""Makes conversations out of the corpus: which kind of turn, how it is phrased, what came before. Seeded and pure."""

from __future__ import annotations

from random import Random

from chatml import Conversation, Message
from corpus_files import Corpus, expand, frames_of, lines
from noise import noisy, pseudo_word
from samples_json import JsonTurns
from samples_tools import ToolTalks

TURNS = ((1, 66), (2, 20), (3, 9), (4, 3), (8, 1), (14, 0.4))
MAIN_FILES_WEIGHT = 1.6
FIRST_TOPICS, FIRST_TOPICS_WEIGHT = ("hello", "thanks", "who_are_you", "what_is_inhouse", "start", "load_model"), 10.0
GREETING_WEIGHT = 60.0
"""Short words say little, and are asked first: a greeting has to be seen often."""
REPLIES = ("thanks", "bye", "yes", "no", "are_you_sure")
COUNTS = (3, 5, 10, 10, 12, 15, 20, 20, 25, 30, 40, 50, 50, 60, 80, 100, 100, 150, 200, 200)


class Sampler:
    """Endless conversations: `conversation()` gives the next. `echo_share` of the turns asks to repeat something."""

    echo_share = 0.06

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self.corpus = corpus
        self.random = Random(seed)
        self.json_turns = JsonTurns(corpus, self.random)
        self.tool_talks = ToolTalks(corpus, self.random)
        concepts = {topic.id for topic in corpus.topics if topic.terms}
        self._topic_weights = [
            GREETING_WEIGHT
            if topic.id == "hello"
            else FIRST_TOPICS_WEIGHT
            if topic.id in FIRST_TOPICS
            else 1.0
            if topic.id in concepts
            else MAIN_FILES_WEIGHT
            for topic in corpus.topics
        ]
        self._lexicon = corpus.extras["words"].split()

    def conversation(self) -> Conversation:
        system = self._system()
        if self.random.random() < 0.18:
            talk = self.tool_talks.talk(self._plain_turn)
            return Conversation((*system, *talk.messages), talk.tools)
        counts, weights = zip(*TURNS, strict=True)
        messages: list[Message] = []
        for _ in range(self.random.choices(counts, weights)[0]):
            messages += self._follow_up(messages) if messages and self.random.random() < 0.45 else self._turn()
        return Conversation((*system, *messages))

    def _system(self) -> tuple[Message, ...]:
        chance = self.random.random()
        if chance < 0.55:
            return ()
        systems: list[str] = self.corpus.extras["systems"]
        if chance < 0.75:
            return (Message("system", systems[0]),)
        text = self.random.choice(systems)
        if self.random.random() < 0.3:
            text += " " + self.random.choice(systems)
        if self.random.random() < 0.2:
            text += f" The user is called {self._name()}."
        return (Message("system", text),)

    def _turn(self) -> list[Message]:
        if self.random.random() < self.echo_share:
            return self._echo()
        chance = self.random.random()
        if chance < 0.88:
            return self._plain_turn()
        if chance < 0.965:
            return self.json_turns.turn()
        return self._count() if chance < 0.99 else self._story()

    def _plain_turn(self) -> list[Message]:
        question, answer = self._known() if self.random.random() < 0.62 else self._refused()
        return [Message("user", noisy(question, self.random)), Message("assistant", answer)]

    def _known(self) -> tuple[str, str]:
        topic = self.random.choices(self.corpus.topics, self._topic_weights)[0]
        if topic.terms and (not topic.asks or self.random.random() < 0.65):
            question = self.random.choice(self.corpus.define).replace("{}", self.random.choice(topic.terms))
        else:
            first_ones = self.random.random() < 0.4
            question = self.random.choice(topic.asks[:10] if first_ones else topic.asks)
        return question, topic.answer

    def _refused(self) -> tuple[str, str]:
        refusals = self.corpus.refusals
        chance = self.random.random()
        if chance < 0.55:
            kind = self.random.choice(refusals.kinds)
            frames = kind.frames if self.random.random() < 0.5 else frames_of(self.corpus, kind)
            question = self.random.choice(frames)
            while "{}" in question:
                question = question.replace("{}", self._subject(kind.subjects), 1)
            return question, kind.answer
        if chance < 0.63:
            terms = self.random.choice([topic.terms for topic in self.corpus.topics if topic.terms])
            frame = self.random.choice(refusals.near)
            return frame.replace("{}", self.random.choice(terms)), refusals.unknown
        if chance < 0.83:
            return self.random.choice(refusals.unknown_questions), refusals.unknown
        if chance < 0.92:
            return self.random.choice(refusals.unable_questions), refusals.unable
        if chance < 0.945:
            return self.random.choice(refusals.foreign_questions), refusals.unknown
        if chance < 0.955:
            return self._word_salad(self.random.randint(1, 9)), refusals.unknown
        if chance < 0.985:
            return self.tool_talks.question_without_tool()
        parts = self.random.choices(refusals.unknown_questions, k=self.random.randint(2, 8))
        return ". ".join(part[:1].upper() + part[1:] for part in parts), refusals.unknown

    def _subject(self, subjects: tuple[str, ...]) -> str:
        """Mostly one of the list; else made up, so that every unheard word is seen to be unknown."""
        chance = self.random.random()
        if chance < 0.72:
            return self.random.choice(subjects)
        article = self.random.choice(("a ", "the ", "", ""))
        if chance < 0.86:
            return article + pseudo_word(self.random)
        if chance < 0.92:
            return f"{article}{self.random.choice(self._lexicon)} {self.random.choice(self._lexicon)}"
        if chance < 0.96:
            link = self.random.choice(("of", "and", "in", "with"))
            return f"{self.random.choice(subjects)} {link} {self.random.choice(subjects)}"
        return f"{self.random.choice(subjects)} {pseudo_word(self.random)}"

    def _word_salad(self, length: int) -> str:
        return " ".join(self._salad_word() for _ in range(length))

    def _salad_word(self) -> str:
        chance = self.random.random()
        if chance < 0.1:
            return str(self.random.randint(0, 120))
        return self.random.choice(self._lexicon) if chance < 0.6 else pseudo_word(self.random)

    def _follow_up(self, before: list[Message]) -> list[Message]:
        """A turn that refers to the last answer. Long answers are not repeated."""
        follow_up = self.corpus.extras["follow_up"]
        answer = before[-1].content
        refused = answer in (self.corpus.refusals.unknown, self.corpus.refusals.unable)
        chance = self.random.random()
        if chance < 0.35 and len(answer) < 300:
            return self._pair(self.random.choice(follow_up["repeat"]), answer)
        if chance < 0.7 and refused:
            return self._pair(self.random.choice(follow_up["why"]), follow_up["why_answer"])
        if chance < 0.7:
            more = next((topic.more for topic in self.corpus.topics if topic.answer == answer and topic.more), None)
            return self._pair(self.random.choice(follow_up["more"]), more or follow_up["more_answer"])
        topic = self.random.choice([topic for topic in self.corpus.topics if topic.id in REPLIES])
        return self._pair(self.random.choice(topic.asks), topic.answer)

    def _pair(self, question: str, answer: str) -> list[Message]:
        return [Message("user", noisy(question, self.random)), Message("assistant", answer)]

    def _count(self) -> list[Message]:
        any_last = min(self.random.randint(2, 200), self.random.randint(2, 200))
        last = self.random.choice(COUNTS) if self.random.random() < 0.75 else any_last
        frame = self.random.choice(self.corpus.extras["count"])
        return self._pair(frame.replace("{}", str(last)), counted(last))

    def _story(self) -> list[Message]:
        story = self.corpus.extras["story"]
        return self._pair(self.random.choice(expand(self.random.choice(lines(story["ask"])))), story["answer"])

    def _echo(self) -> list[Message]:
        words = self._word_salad(self.random.choice((1, 2, 2, 3, 3, 4, 5, 6, 8, 12)))
        if self.random.random() < 0.3:
            words = words[:1].upper() + words[1:] + self.random.choice((".", "!", ""))
        question = self.random.choice(self.corpus.extras["echo"]).replace("{}", words)
        if self.random.random() < 0.5:
            question = question[:1].upper() + question[1:]
        return [Message("user", question), Message("assistant", words)]

    def _name(self) -> str:
        names: str = self.corpus.extras["names"]
        return self.random.choice(names.split())


def counted(last: int) -> str:
    """
    >>> counted(3)
    '1, 2, 3.'
    """
    return ", ".join(str(number) for number in range(1, last + 1)) + "."
