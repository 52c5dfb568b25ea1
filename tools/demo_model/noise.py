"""How people really type: another beginning, lower case, a mark left out, a typo. Pure, given a `Random`."""

from __future__ import annotations

import string
from pathlib import Path
from random import Random

import yaml

_LISTS = yaml.safe_load((Path(__file__).parent / "corpus/noise.yaml").read_text(encoding="utf-8"))
OPENERS = _LISTS["openers"].split(" | ")
CLOSERS = _LISTS["closers"].split(" | ")
SPELLINGS = list(_LISTS["spellings"].items())
BEGINNINGS = {beginning: others.split(" | ") for beginning, others in _LISTS["beginnings"].items()}
SMALL_WORDS = frozenset(
    {"a", "an", "the", "is", "do", "does", "I", "to", "of", "in", "it", "me", "can", "you", "for", "my"}
)
MARKS, MARK_WEIGHTS = ("?", ".", "!", "??", " ?", ""), (50, 6, 4, 1, 2, 37)
ONSETS = [*_LISTS["onsets"].split(" | "), ""]
CODAS = [*_LISTS["codas"].split(" | "), "", "", ""]


def noisy(question: str, random: Random) -> str:
    """One reading of `question`; about one in eight stays untouched."""
    text = question
    if random.random() < 0.35:
        text = _other_beginning(text, random)
    if random.random() < 0.15:
        text = text.replace(*random.choice(SPELLINGS), 1)
    if random.random() < 0.10:
        text = _without_small_word(text, random)
    if random.random() < 0.13:
        text = _typo(text, random)
    if random.random() < 0.14:
        text = f"{random.choice(OPENERS)} {text}"
    if random.random() < 0.10:
        text = f"{text}{random.choice((' ', ', '))}{random.choice(CLOSERS)}"
    if text[-1:] not in {"?", ".", "!"}:
        text += random.choices(MARKS, MARK_WEIGHTS)[0]
    case = random.random()
    if case < 0.45:
        return text[:1].upper() + text[1:]
    if case < 0.65:
        return text.lower()
    return text.upper() if case < 0.67 else text


def pseudo_word(random: Random) -> str:
    """A word that means nothing, such as `florbanik`."""
    syllables = random.randint(1, 3)
    return "".join(random.choice(ONSETS) + random.choice("aeiou") + random.choice(CODAS) for _ in range(syllables))


def _other_beginning(text: str, random: Random) -> str:
    for beginning, others in BEGINNINGS.items():
        if text.startswith(beginning):
            return f"{random.choice(others)} {text.removeprefix(beginning)}"
    return text


def _without_small_word(text: str, random: Random) -> str:
    words = text.split()
    places = [place for place, word in enumerate(words) if word in SMALL_WORDS]
    if len(words) < 4 or not places:
        return text
    gone = random.choice(places)
    return " ".join(words[:gone] + words[gone + 1 :])


def _typo(text: str, random: Random) -> str:
    """A letter lost, doubled, swapped or mistaken, inside a word."""
    places = [place for place in range(1, len(text) - 1) if text[place - 1 : place + 2].isalpha()]
    if not places:
        return text
    place = random.choice(places)
    before, letter, after = text[:place], text[place], text[place + 1 :]
    match random.randrange(4):
        case 0:
            return before + after
        case 1:
            return before + letter + letter + after
        case 2:
            return before + after[0] + letter + after[1:]
        case _:
            return before + random.choice(string.ascii_lowercase) + after
