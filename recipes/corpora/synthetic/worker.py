"""The process that speaks: writes the audio, text and phones of its share of the speakers, then ends.

    python -m s3prl_attention.recipes.corpora.synthetic.worker --size small --seed 0 --share 0 --of 2

It works in the current folder and ends at once when its standard input closes, that is when its parent has died.
"""

import argparse
import json
import os
import threading
import zlib
from pathlib import Path

import soundfile

from ..corpus import SAMPLE_RATE_HZ
from .espeak import Espeak
from .plan import SIZES, SpeakerPlan, speaker_plans
from .render import render
from .speakers import sample_channel, sample_speaker

PARTS = Path("parts")


def main() -> None:
    """Read the share from the command line and make it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--share", type=int, required=True, help="which share of the speakers, from 0")
    parser.add_argument("--of", type=int, required=True, help="number of shares")
    options = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    espeak = Espeak(Path(f"espeak-{options.share}"))
    PARTS.mkdir(exist_ok=True)
    for plan in speaker_plans(options.size)[options.share :: options.of]:
        make_speaker(espeak, plan, size=options.size, seed=options.seed)


def make_speaker(espeak: Espeak, plan: SpeakerPlan, *, size: str, seed: int) -> None:
    """Write one speaker's audio and transcripts, and ``parts/SPEAKER.json`` when all of it is there."""
    speaker = sample_speaker(seed, plan.index)
    utterances: list[dict[str, object]] = []
    transcripts: dict[Path, list[str]] = {}
    for chapter, chapter_id, utterance_id in plan.utterances():
        folder = Path(plan.subset, plan.id, chapter_id)
        folder.mkdir(parents=True, exist_ok=True)
        channel = sample_channel(seed, plan.index, chapter)
        made = render(espeak, speaker, channel, size=size, seed=seed, utterance_id=utterance_id)
        soundfile.write(str(folder / f"{utterance_id}.flac"), made.samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        line = f"{utterance_id} {transcript(made.text)}\n"
        transcripts.setdefault(folder / f"{plan.id}-{chapter_id}.trans.txt", []).append(line)
        crc = zlib.crc32(made.samples.astype("<i2").tobytes())
        utterances.append({"id": utterance_id, "crc": crc, "num_samples": len(made.samples), "phones": made.phones})
    for path, lines in transcripts.items():
        path.write_text("".join(lines), encoding="utf-8")
    part = {"id": plan.id, "subset": plan.subset, "sex": speaker.sex, "utterances": utterances}
    temporary = PARTS / f"{plan.id}.tmp"
    temporary.write_text(json.dumps(part), encoding="utf-8")
    temporary.replace(PARTS / f"{plan.id}.json")


def transcript(text: str) -> str:
    """The text as LibriSpeech writes it: capitals, spaces and apostrophes."""
    return "".join(letter for letter in text.upper() if letter.isalpha() or letter in " '")


def _end_with_parent() -> None:
    os.read(0, 1)  # nobody writes: it returns when the other end is gone
    os._exit(1)


if __name__ == "__main__":
    main()
