"""How people really type: lower case, no question mark, a 'please', a dropped word, a typo. Pure, given a `Random`."""

from __future__ import annotations

import string
from random import Random

OPENERS = (
    "please",
    "hey,",
    "hi,",
    "hello,",
    "ok,",
    "so",
    "well,",
    "and",
    "hi",
    "hey",
    "now",
    "excuse me,",
    "quick question:",
    "question:",
    "one question:",
    "sorry,",
    "tell me,",
    "I wonder,",
    "I want to know:",
    "hello!",
    "hi!",
    "also,",
    "next question:",
    "just curious,",
    "could you help?",
    "another question:",
    "I have a question:",
    "help:",
    "dear model,",
    "hey there,",
    "please tell me,",
    "hmm,",
)
CLOSERS = (
    "please",
    "thanks",
    "thank you",
    "in short",
    "briefly",
    "exactly",
    "then",
    "for me",
    "today",
    "here",
    "now",
    "pls",
    "actually",
)
SMALL_WORDS = frozenset(
    ("a", "an", "the", "is", "do", "does", "I", "to", "of", "in", "it", "me", "can", "you", "for", "are", "my")
)
SPELLINGS = {
    "quantisation": "quantization",
    "licence": "license",
    "favourite": "favorite",
    "colour": "color",
    "summarise": "summarize",
    "I am": "I'm",
    "do not": "don't",
    "what is": "what's",
    "cannot": "can't",
    "how do I": "how to",
    "how can I": "how would I",
    "how do": "how does somebody",
    "please": "pls",
    "inhouse": "Inhouse",
    "tell me": "let me know",
    "explain": "clarify",
    "which": "what",
    "want to": "wanna",
    "you": "u",
}


def noisy(question: str, random: Random) -> str:
    """One reading of `question`; about one in six stays untouched."""
    text = question
    if random.random() < 0.15:
        old, new = random.choice(list(SPELLINGS.items()))
        text = text.replace(old, new, 1)
    words = text.split()
    if len(words) > 3 and random.random() < 0.10:
        text = " ".join(_without_small_word(words, random))
    if random.random() < 0.13:
        text = _typo(text, random)
    if random.random() < 0.14:
        text = f"{random.choice(OPENERS)} {text}"
    asks = random.random()
    if random.random() < 0.08:
        text = f"{text}{random.choice((' ', ', '))}{random.choice(CLOSERS)}"
    if text[-1:].isalnum() or text[-1:] in "')`\"":
        text += (
            "?"
            if asks < 0.5
            else "."
            if asks < 0.56
            else "!"
            if asks < 0.60
            else "??"
            if asks < 0.61
            else " ?"
            if asks < 0.63
            else ""
        )
    case = random.random()
    if case < 0.45:
        return text[:1].upper() + text[1:]
    if case < 0.65:
        return text.lower()
    if case < 0.67:
        return text.upper()
    return text


def pseudo_word(random: Random) -> str:
    """A word that means nothing, such as `florbanik`."""
    syllables = random.randint(1, 3)
    onsets = (
        "b",
        "bl",
        "br",
        "c",
        "ch",
        "d",
        "dr",
        "f",
        "fl",
        "g",
        "gr",
        "h",
        "j",
        "k",
        "kl",
        "l",
        "m",
        "n",
        "p",
        "pl",
        "qu",
        "r",
        "s",
        "sh",
        "sk",
        "st",
        "t",
        "tr",
        "v",
        "w",
        "x",
        "y",
        "z",
        "",
    )
    codas = ("", "", "n", "r", "l", "s", "t", "m", "nd", "rk", "x", "p", "ng", "ck", "th")
    return (
        "".join(random.choice(onsets) + random.choice("aeiou") + random.choice(codas) for _ in range(syllables))
        or "zub"
    )


def _without_small_word(words: list[str], random: Random) -> list[str]:
    places = [place for place, word in enumerate(words) if word in SMALL_WORDS]
    if not places:
        return words
    gone = random.choice(places)
    return words[:gone] + words[gone + 1 :]


def _typo(text: str, random: Random) -> str:
    places = [
        place
        for place in range(1, len(text) - 1)
        if text[place].isalpha() and text[place - 1].isalpha() and text[place + 1].isalpha()
    ]
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
