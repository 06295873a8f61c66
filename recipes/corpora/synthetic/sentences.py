"""Plain English sentences without end, from our own small grammar; none of the text comes from elsewhere."""

import random
import re

from .vocabulary import SLOTS

OPEN = re.compile(r"{(\w+)}")
ARTICLE = re.compile(r"\b([Aa]) (?=(\w+))")
VOWEL_SOUND = re.compile(r"(?!uni|use|usu|uk|ut|eu|one|once)[aeiou]|hour|honest|heir", re.IGNORECASE)
CONSONANT_SOUND = re.compile(r"\b([Aa])n (?=(?:uni|use|usu|uk|ut|eu|one|once|[^aeiouh\W]))")


def sentence(draw: random.Random) -> str:
    """One sentence, with a capital and its final mark; the same numbers drawn give the same sentence."""
    text = _fill("{sentence}", draw)
    text = ARTICLE.sub(lambda found: f"{found[1]}n " if VOWEL_SOUND.match(found[2]) else found[0], text)
    text = CONSONANT_SOUND.sub(r"\1 ", text)
    return text[0].upper() + text[1:]


def _fill(text: str, draw: random.Random) -> str:
    """Replace each slot by one of its choices, and the slots of that choice too."""

    def choose(found: re.Match[str]) -> str:
        choices = SLOTS[found[1]]
        return _fill(choices[int(draw.random() * len(choices))], draw)

    return OPEN.sub(choose, text)
