"""eSpeak NG's American English phone events as ARPAbet segments.

Onsets are the samples at which the synthesizer starts a phone. Conventions decide three things that it has no event
for: a stop's silent closure, an l that lives inside the vowel before it, and vowels with an r or l of their own.
"""

from typing import NamedTuple

import numpy as np

from ..corpus import SIL

# ARPAbet, then the mnemonics (without stress marks) that are spoken so. Two names: a unit that is cut in two.
TABLE = """
AA      0 A:
AA R    A@
AE      a aa
AH      V @ @- @2 a#
AH L    @L
AO      O: O2
AO R    O@ o@
AW      aU
AW AH   aU@
AY      aI aI2
AY ER   aI3
AY AH   aI@
EH      E
EH R    e@
ER      3 3: IR VR
EY      eI
IH      I I# I2
IH R    i@3
IY      i i:
IY AH   i@
OW      oU
OY      OI
UH      U
UH R    U@
UW      u u:
B       b
CH      tS
D       d
DH      D
F       f
G       g
HH      h
JH      dZ
K       k x
L       l
M       m
N       n n- n^
NG      N
P       p
R       r r-
S       s
SH      S
T       t t# t2 t[ ?
TH      T
V       v
W       w w#
Y       j
Z       z
ZH      Z
SIL     _ _: _! _| _::
"""
ARPABET_OF = {mnemonic: tuple(line[:8].split()) for line in TABLE.strip().splitlines() for mnemonic in line[8:].split()}
JOINTS = {";", "|", "-"}  # marks between phones that make no sound of their own: they belong to the phone before
STRESS_MARKS = "',%="
VOWELS = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}
RATE_HZ = 22_050  # of the synthesizer, whose samples all figures below count
MIN_CLOSURE_SAMPLES = 66  # 3 ms of exact zeros
MAX_HIDDEN_L_SAMPLES = 1000  # 45 ms: an l event shorter than this is only the end of one that the vowel holds
HIDDEN_L_SHARE = 0.33  # of vowel and l together
FIRST_SHARE = 0.6  # of a unit that stands for two phones


class Segment(NamedTuple):
    """A phone from sample ``start`` up to sample ``end``."""

    start: int
    end: int
    phone: str


def segment(pcm: np.ndarray, events: list[tuple[int, str]]) -> list[Segment]:
    """Cut ``pcm`` (S,) into phones, back to back from its first sample to its last.

    ``events`` are ``(first sample, eSpeak mnemonic)`` in order.
    """
    starts, units = _units(events, len(pcm))
    _give_closures(pcm, starts, units)
    _give_hidden_l(starts, units, len(pcm))
    segments = [Segment(0, starts[0] if starts else len(pcm), SIL)]
    for start, end, unit in zip(starts, [*starts[1:], len(pcm)], units, strict=True):
        cut = start + int((end - start) * FIRST_SHARE) if len(unit) == 2 else end
        segments += [Segment(a, b, phone) for (a, b), phone in zip(((start, cut), (cut, end)), unit, strict=False)]
    return join_silences(segments)


def join_silences(segments: list[Segment]) -> list[Segment]:
    """Neighbouring silences as one; segments of no length left out."""
    joined: list[Segment] = []
    for item in segments:
        if item.end <= item.start:
            continue
        if joined and item.phone == SIL == joined[-1].phone:
            joined[-1] = joined[-1]._replace(end=item.end)
        else:
            joined.append(item)
    return joined


def _units(events: list[tuple[int, str]], num_samples: int) -> tuple[list[int], list[tuple[str, ...]]]:
    """Starts and ARPAbet names of the events that make a sound; one R where an r links two words."""
    starts: list[int] = []
    units: list[tuple[str, ...]] = []
    for start, mnemonic in events:
        name = mnemonic.lstrip(STRESS_MARKS)
        if name in JOINTS:
            continue
        if name not in ARPABET_OF:
            raise KeyError(f"eSpeak phone {mnemonic!r} has no ARPAbet name: add it to the table in {__name__}")
        unit = ARPABET_OF[name]
        if unit == ("R",) and units and len(units[-1]) == 2 and units[-1][1] == "R":
            units[-1] = units[-1][:1]
        starts.append(min(start, num_samples))
        units.append(unit)
    return starts, units


def _give_closures(pcm: np.ndarray, starts: list[int], units: list[tuple[str, ...]]) -> None:
    """A stop's (or a late fricative's) event comes with its noise: the zeros before it are its closure."""
    silent = pcm == 0
    for place in range(1, len(starts)):
        if units[place - 1] == (SIL,) or units[place] == (SIL,):
            continue
        before = silent[starts[place - 1] : starts[place]][::-1]
        run = len(before) if before.all() else int(before.argmin())
        if run >= MIN_CLOSURE_SAMPLES:
            starts[place] -= run


def _give_hidden_l(starts: list[int], units: list[tuple[str, ...]], num_samples: int) -> None:
    """An l after a vowel is spoken within the vowel's ending and its event hardly lasts: give it its share of both."""
    for place in range(1, len(starts)):
        end = starts[place + 1] if place + 1 < len(starts) else num_samples
        hidden = end - starts[place] < MAX_HIDDEN_L_SAMPLES
        if units[place] == ("L",) and units[place - 1][-1] in VOWELS and hidden:
            starts[place] = end - int((end - starts[place - 1]) * HIDDEN_L_SHARE)
