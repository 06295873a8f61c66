"""The synthetic corpus: the same bits however it is made, exact labels, nothing half-made."""

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from s3prl_attention.recipes.corpora import Corpus, PhoneAlignment, load_corpus, read_audio, synthetic
from s3prl_attention.recipes.corpora.synthetic.phones import ARPABET_OF, segment
from s3prl_attention.recipes.corpora.synthetic.plan import SIZES, speaker_plans, stream
from s3prl_attention.recipes.corpora.synthetic.sentences import sentence
from s3prl_attention.recipes.corpora.synthetic.speakers import sample_channel, sample_speaker

LOAD = """
import sys
from s3prl_attention.recipes.corpora import load_corpus
print(load_corpus("synthetic", size=sys.argv[1]).fingerprint)
"""
ONE_SPEAKER_BACKWARDS = """
import json
from pathlib import Path
from s3prl_attention.recipes.corpora.synthetic.espeak import Espeak
from s3prl_attention.recipes.corpora.synthetic.plan import speaker_plans
from s3prl_attention.recipes.corpora.synthetic.render import render
from s3prl_attention.recipes.corpora.synthetic.speakers import sample_channel, sample_speaker
import zlib
espeak = Espeak(Path("e"))
made = {}
for plan in reversed(speaker_plans("tiny")[5:7]):
    for chapter, _, id in reversed(plan.utterances()):
        channel = sample_channel(0, plan.index, chapter)
        done = render(espeak, sample_speaker(0, plan.index), channel, size="tiny", seed=0, utterance_id=id)
        made[id] = zlib.crc32(done.samples.astype("<i2").tobytes())
print(json.dumps(made))
"""

linux_only = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the worker processes in /proc")


def run(code: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    environment = os.environ | variables
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=environment,
        cwd=variables.get("HERE"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited a minute for {what}"
        time.sleep(0.02)


def test_layout_and_counts(synthetic_tiny: Corpus) -> None:
    assert synthetic_tiny.name == "synthetic-tiny"
    assert synthetic_tiny.synthetic
    assert len(synthetic_tiny.phone_set) == 40
    assert "synthetic" in synthetic_tiny.note
    counts = {subset: len(synthetic_tiny.select(subset).utterances) for subset in synthetic_tiny.subsets()}
    assert counts == {"train-clean": 48, "dev-clean": 8, "test-clean": 8}
    speakers = {subset: {item.speaker for item in synthetic_tiny.select(subset).utterances} for subset in counts}
    assert {subset: len(names) for subset, names in speakers.items()} == {
        "train-clean": 8,
        "dev-clean": 2,
        "test-clean": 2,
    }
    assert len(set.union(*speakers.values())) == 12
    for name in set.union(*speakers.values()):
        assert len({item.chapter for item in synthetic_tiny.utterances if item.speaker == name}) == 2
    assert len({item.text for item in synthetic_tiny.utterances}) == 64
    assert all(item.text and item.text == item.text.upper() for item in synthetic_tiny.utterances)


def test_labels_cover_every_sample_back_to_back(synthetic_tiny: Corpus) -> None:
    for item in synthetic_tiny.utterances:
        assert item.phones is not None
        assert item.phones.start_s[0] == 0
        assert item.phones.end_s[-1] == item.seconds
        assert np.array_equal(item.phones.start_s[1:], item.phones.end_s[:-1])
        assert (item.phones.end_s > item.phones.start_s).all()
        samples = item.phones.end_s * 16_000
        assert np.abs(samples - samples.round()).max() < 1e-6
        segments = item.segments(synthetic_tiny.phone_set)
        assert segments[0].phone == segments[-1].phone == "SIL"
        assert not any(a.phone == b.phone == "SIL" for a, b in pairwise(segments))


def test_labels_lie_where_the_sounds_are(synthetic_tiny: Corpus) -> None:
    level_db: dict[str, list[float]] = {}
    hiss: dict[str, list[float]] = {}
    for item in synthetic_tiny.utterances[::2]:
        wave = read_audio(item.path).numpy()
        assert len(wave) == item.num_samples
        for part in item.segments(synthetic_tiny.phone_set):
            sound = wave[round(part.start_s * 16_000) : round(part.end_s * 16_000)]
            if len(sound) >= 320:
                energy = np.abs(np.fft.rfft(sound)) ** 2
                level_db.setdefault(part.phone, []).append(10 * np.log10(np.mean(sound**2)))
                hiss.setdefault(part.phone, []).append(energy[len(energy) // 3 :].sum() / energy.sum())
    median_db = {phone: float(np.median(levels)) for phone, levels in level_db.items()}
    vowels = [median_db[phone] for phone in ("AA", "AE", "AH", "EH", "IH", "IY", "OW")]
    assert median_db["SIL"] < min(vowels) - 20
    assert max(median_db[phone] for phone in ("T", "K", "P")) < min(vowels) - 8  # their closures are silent
    median_hiss = {phone: float(np.median(shares)) for phone, shares in hiss.items()}
    assert min(median_hiss[phone] for phone in ("S", "SH")) > 0.4
    assert max(median_hiss[phone] for phone in ("M", "N", "AA")) < 0.05


def test_the_frames_file_is_the_ctm_at_ten_milliseconds(synthetic_tiny: Corpus) -> None:
    framed = load_corpus(
        "librispeech", synthetic_tiny.root, alignments=synthetic_tiny.root / "alignments" / "dev-clean.frames.txt"
    ).select("dev-clean")
    for a, b in zip(synthetic_tiny.select("dev-clean").utterances, framed.utterances, strict=True):
        assert isinstance(a.phones, PhoneAlignment)
        assert isinstance(b.phones, PhoneAlignment)
        assert np.array_equal(a.phones.frame_labels(a.num_frames), b.phones.frame_labels(b.num_frames))


@linux_only
def test_a_killed_run_leaves_nothing_and_two_that_follow_agree(synthetic_tiny: Corpus, tmp_path: Path) -> None:
    corpora = tmp_path / "corpora"
    killed = run(LOAD, "tiny", S3PRL_ATTENTION_CACHE=str(tmp_path))
    wait_for(lambda: list(corpora.glob(".*.tmp/parts/*.json")), "the first speaker")
    workers = children(killed.pid)
    assert workers
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not any(map(running, workers)), "the workers to end")
    assert not [path for path in corpora.iterdir() if not path.name.startswith(".")]
    both = [run(LOAD, "tiny", S3PRL_ATTENTION_CACHE=str(tmp_path)) for _ in range(2)]
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.strip() == synthetic_tiny.fingerprint
    assert [path.name for path in corpora.iterdir() if path.is_dir()] == [synthetic_tiny.root.name]


@linux_only
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    killed = run(LOAD, "base", S3PRL_ATTENTION_CACHE=str(tmp_path))
    wait_for(lambda: list(tmp_path.glob("corpora/.*.tmp/parts/*.json")), "the first speaker")
    workers = children(killed.pid)
    assert all(map(running, workers))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not any(map(running, workers)), "the workers to end")
    made = list(tmp_path.glob("corpora/.*.tmp/parts/*.json"))
    assert len(made) < len(speaker_plans("base")) / 2  # they did not just finish their work


@linux_only
def test_a_killed_worker_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    process = run(LOAD, "tiny", S3PRL_ATTENTION_CACHE=str(tmp_path))
    wait_for(lambda: list(tmp_path.glob("corpora/.*.tmp/espeak-*")), "a worker")
    workers = children(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "ended with code -9" in err.splitlines()[-1]
    assert not any(map(running, workers))
    assert not [path for path in (tmp_path / "corpora").iterdir() if path.is_dir()]


def test_one_utterance_comes_out_the_same_in_any_order(synthetic_tiny: Corpus, tmp_path: Path) -> None:
    out, err = run(ONE_SPEAKER_BACKWARDS, HERE=str(tmp_path)).communicate()
    made = json.loads(out or err)
    assert len(made) == 12
    assert made == {item.id: item.content for item in synthetic_tiny.utterances if item.id in made}


def test_the_label_is_the_sex_of_the_voice_half_of_each_in_every_subset(synthetic_tiny: Corpus) -> None:
    sex = {u.speaker: u.labels["label"] for u in synthetic_tiny.utterances}
    assert sex == {str(1000 + index): sample_speaker(0, index).sex for index in range(12)}
    for subset in synthetic_tiny.subsets():
        counts = Counter(u.labels["label"] for u in synthetic_tiny.select(subset).utterances)
        assert counts["F"] == counts["M"]


def test_without_its_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "espeakng_loader" else real(name, *rest)
    )
    with pytest.raises(ValueError, match=r'pip install "s3prl-attention\[synth\]".*--corpus librispeech') as caught:
        load_corpus("synthetic", size="tiny")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "corpora").iterdir() if path.is_dir()]


def test_a_made_corpus_that_lost_a_file_says_so(
    synthetic_tiny: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = dataclasses.replace(synthetic_tiny, utterances=synthetic_tiny.utterances[1:])
    monkeypatch.setattr(synthetic, "load_librispeech", lambda folder: damaged)
    with pytest.raises(ValueError, match="remove the folder"):
        load_corpus("synthetic", size="tiny")


def test_a_made_corpus_with_a_damaged_file_says_what_to_remove(
    synthetic_tiny: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(synthetic_tiny.root, tmp_path / "corpora" / synthetic_tiny.root.name)
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path))
    damaged = root / synthetic_tiny.utterances[3].path.relative_to(synthetic_tiny.root)
    damaged.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{damaged}: the made corpus is damaged: remove {root}, it will be made"):
        load_corpus("synthetic", size="tiny")
    with pytest.raises(ValueError, match=r"takes no skip_broken: .* remove its folder in the cache"):
        load_corpus("synthetic", size="tiny", skip_broken=True)


def test_seeds_and_chapters_differ_and_keys_repeat() -> None:
    assert sample_speaker(0, 3) == sample_speaker(0, 3)
    assert len({sample_speaker(seed, index).voice for seed in range(3) for index in range(10)}) == 30
    assert {sample_speaker(0, index).sex for index in (0, 2, 4)} == {"M"}
    first, second = sample_channel(0, 3, 0), sample_channel(0, 3, 1)
    assert not np.allclose(first.response, second.response)
    assert np.array_equal(first.response, sample_channel(0, 3, 0).response)
    assert stream("a", 1).random() == stream("a", 1).random() != stream("a", 2).random()


@pytest.mark.parametrize("size", SIZES)
def test_plans_give_every_utterance_its_own_id(size: str) -> None:
    ids = [id for plan in speaker_plans(size) for _, _, id in plan.utterances()]
    assert len(ids) == len(set(ids)) == sum(speakers * each for speakers, each in SIZES[size].subsets.values())


def test_sentences_are_plain_and_all_different() -> None:
    draw = stream("sentences")
    made = [sentence(draw) for _ in range(2000)]
    assert len(set(made)) > 1990
    text = " ".join(made)
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ,.?!'")
    assert all(item[0].isupper() and item[-1] in ".?!" for item in made)
    for wrong in (" a old ", " an youth", " a ape", "a hourglass", "an unicycle", "an usual", "a umbrella", "  "):
        assert wrong not in text


def unit(samples: int, silent: int = 0) -> np.ndarray:
    return np.concatenate([np.zeros(silent), np.ones(samples - silent)]).astype(np.int16)


def test_a_closure_belongs_to_its_stop() -> None:
    vowel, burst = unit(2000), unit(1000)
    pcm = np.concatenate([vowel, unit(400, silent=400), burst])
    assert segment(pcm, [(0, "a"), (2400, "t")]) == [(0, 2000, "AE"), (2000, 3400, "T")]
    assert segment(pcm, [(0, "a"), (2400, "_:")]) == [(0, 2400, "AE"), (2400, 3400, "SIL")]
    short = np.concatenate([vowel, unit(60, silent=60), burst])
    assert segment(short, [(0, "a"), (2060, "t")])[0] == (0, 2060, "AE")  # under 3 ms: part of the wave


def test_units_of_two_phones_are_cut_and_a_linking_r_is_one_r() -> None:
    pcm = unit(4000)
    assert segment(pcm, [(0, "A@"), (1000, "'i:")]) == [(0, 600, "AA"), (600, 1000, "R"), (1000, 4000, "IY")]
    assert [item.phone for item in segment(pcm, [(0, "A@"), (1000, "r"), (2000, "i:")])] == ["AA", "R", "IY"]


def test_a_dark_l_gets_its_share_of_the_vowel() -> None:
    assert segment(unit(3100), [(0, "O:"), (3000, "l")]) == [(0, 2077, "AO"), (2077, 3100, "L")]
    assert segment(unit(5000), [(0, "O:"), (3000, "l")]) == [(0, 3000, "AO"), (3000, 5000, "L")]


def test_leading_sound_without_an_event_is_silence_and_marks_join() -> None:
    assert segment(unit(1000), [(100, "_:"), (400, "s"), (700, ";")]) == [(0, 400, "SIL"), (400, 1000, "S")]
    with pytest.raises(KeyError, match="'q7' has no ARPAbet name"):
        segment(unit(10), [(0, "q7")])


def test_the_table_names_every_arpabet_phone() -> None:
    from s3prl_attention.recipes.corpora.corpus import PHONE_SET

    assert {phone for names in ARPABET_OF.values() for phone in names} == set(PHONE_SET)
