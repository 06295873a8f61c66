"""Speaks through eSpeak NG, in the worker process only: the library is GPL-3 and keeps its state in globals.

The data path that the library can hold is 160 bytes and longer ones fail without a word, so the English part of the
data is copied into a folder that is reached by a short relative path.
"""

import ctypes
import shutil
from pathlib import Path

import numpy as np

from .phones import RATE_HZ
from .speakers import Speaker

ENGLISH_FILES = ("phondata", "phonindex", "phontab", "intonations", "en_dict")
SYNCHRONOUS, PHONEME_EVENTS, DO_NOT_EXIT = 2, 0x0001, 0x8000
LIST_END, PHONEME = 0, 7  # event types
RATE, VOLUME, PITCH, PITCH_RANGE = 1, 2, 3, 4  # parameters
BY_CHARACTER, UTF8 = 1, 1
QUIET = 20  # the limiter, which remembers the last utterance, never engages at this volume


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The synthesizer; one per process. ``folder`` is a short path to an empty folder that outlives it."""

    def __init__(self, folder: Path) -> None:
        import espeakng_loader

        data = folder / "espeak-ng-data"
        _copy_english(Path(espeakng_loader.get_data_path()), data)
        self._voices = data / "voices" / "!v"
        self._voices.mkdir(parents=True)
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        options = PHONEME_EVENTS | DO_NOT_EXIT
        rate_hz = self._library.espeak_Initialize(SYNCHRONOUS, 0, str(data).encode(), options)
        if rate_hz != RATE_HZ:
            raise RuntimeError(f"eSpeak NG did not start (code {rate_hz}): reinstall espeakng-loader")
        self._chunks: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _Callback(self._collect)  # kept: the library does not hold on to it
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(
        self, speaker: Speaker, text: str, *, noise_seed: int, rate_wpm: float, pitch: float, pitch_range: float
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Say ``text``: samples (S,) int16 at 22,050 Hz, and ``(first sample, mnemonic)`` of each phone.

        The result depends on the arguments alone, not on what was said before. ``pitch`` and ``pitch_range`` are on
        eSpeak's scale of 0 to 100.
        """
        self._set_voice(speaker)
        for parameter, value in ((RATE, rate_wpm), (VOLUME, QUIET), (PITCH, pitch), (PITCH_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, round(value), 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(noise_seed))
        self._chunks, self._events = [], []
        utf8 = text.encode()
        status = self._library.espeak_Synth(utf8, len(utf8) + 1, 0, BY_CHARACTER, 0, UTF8, None, None)
        if status != 0 or not self._chunks:
            raise RuntimeError(f"eSpeak NG could not say {text!r} (code {status})")
        return np.concatenate(self._chunks), self._events

    def _set_voice(self, speaker: Speaker) -> None:
        file = self._voices / speaker.name
        if not file.exists():
            file.write_text(speaker.voice, encoding="ascii")
        status = self._library.espeak_SetVoiceByName(f"en-us+{speaker.name}".encode())
        if status != 0:
            raise RuntimeError(f"eSpeak NG does not accept the voice {speaker.name!r} (code {status})")

    def _collect(
        self, wave: "ctypes._Pointer[ctypes.c_short]", num_samples: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if wave and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(wave, shape=(num_samples,)).copy())
        place = 0
        while events[place].type != LIST_END:
            event = events[place]
            if event.type == PHONEME:  # its name fills 8 bytes and need not end in NUL
                name = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0].decode()
                self._events.append((event.sample, name))
            place += 1
        return 0


def _copy_english(source: Path, target: Path) -> None:
    languages = target / "lang" / "gmw"
    languages.mkdir(parents=True)
    for name in ENGLISH_FILES:
        shutil.copyfile(source / name, target / name)
    for path in (source / "lang" / "gmw").glob("en*"):
        shutil.copyfile(path, languages / path.name)
