"""CTC: learns a toy alphabet, counts edits as editdistance does, and tells of utterances that are too short."""

import logging
import math
from dataclasses import replace

import editdistance
import numpy as np
import pytest
import torch
from s3prl_attention.downstream.ctc import ctc_loss, edits, frames_needed, greedy
from s3prl_attention.downstream.heads import layers
from s3prl_attention.downstream.outcomes import Count
from s3prl_attention.downstream.recognizer import Recognizer
from task_fixtures import build, small
from torch import Tensor
from torch.nn import functional

TABLE = [  # reference, answer, substitutions, insertions, deletions; counted by hand
    ("", "", 0, 0, 0),
    ("abc", "abc", 0, 0, 0),
    ("abc", "", 0, 0, 3),
    ("", "ab", 0, 2, 0),
    ("abc", "axc", 1, 0, 0),
    ("abc", "ac", 0, 0, 1),
    ("abc", "abxc", 0, 1, 0),
    ("abc", "xyz", 3, 0, 0),
    ("abcd", "bcde", 0, 1, 1),
    ("aab", "ab", 0, 0, 1),
    ("ab", "aabb", 0, 2, 0),
    ("kitten", "sitting", 2, 1, 0),
    ("sunday", "saturday", 1, 2, 0),
    ("abcdef", "bxdefg", 1, 1, 1),
]


@pytest.mark.parametrize(("reference", "answer", "substitutions", "insertions", "deletions"), TABLE)
def test_edits_agree_with_a_table_made_by_hand(
    reference: str, answer: str, substitutions: int, insertions: int, deletions: int
):
    found = edits([ord(letter) for letter in reference], [ord(letter) for letter in answer])
    assert found == (substitutions, insertions, deletions)
    assert sum(found) == editdistance.eval(reference, answer)


def test_edits_are_as_many_as_editdistance_says_and_make_the_answers_length():
    rng = np.random.default_rng(0)
    for _ in range(300):
        reference, answer = (rng.integers(4, size=rng.integers(20)).tolist() for _ in range(2))
        substitutions, insertions, deletions = edits(reference, answer)
        assert substitutions + insertions + deletions == editdistance.eval(reference, answer)
        assert len(reference) - deletions + insertions == len(answer)


def test_greedy_merges_neighbours_and_drops_blanks():
    path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 3]
    assert greedy(functional.one_hot(torch.tensor(path), 4).float()) == [1, 1, 2, 3]
    assert greedy(torch.tensor([[1.0, 0.0], [2.0, 0.0]])) == []


@pytest.mark.parametrize("spoken", [[1], [1, 2, 3], [1, 1], [2, 2, 2, 1, 1], []])
def test_one_frame_less_than_needed_has_no_path(spoken: list[int]):
    transcript, scores = torch.tensor(spoken, dtype=torch.int64), torch.zeros(20, 4).log_softmax(-1)
    needed = frames_needed(transcript)
    assert math.isfinite(ctc_loss([scores[: max(1, needed)]], [transcript]))
    if needed > 1:
        assert ctc_loss([scores[: needed - 1]], [transcript]) == math.inf


def sung(transcript: list[int], rng: np.random.Generator, dim: int = 6) -> Tensor:
    """Frames of a transcript: each class lights its dimension for 2 to 5 frames, dimension 0 lights in between."""
    held = [[0] * int(rng.integers(1, 3)) + [phone] * int(rng.integers(2, 6)) for phone in transcript]
    path = torch.tensor([phone for part in held for phone in part])
    return functional.one_hot(path, dim).float() + 0.1 * torch.from_numpy(rng.normal(size=(len(path), dim))).float()


@pytest.mark.parametrize("hidden", [(), (32,)])
def test_a_toy_alphabet_is_recognised_almost_without_error(hidden: tuple[int, ...]):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    transcripts = [rng.integers(1, 6, size=rng.integers(3, 12)).tolist() for _ in range(40)]
    features = [sung(transcript, rng) for transcript in transcripts]
    labels, ids = [torch.tensor(transcript) for transcript in transcripts], [str(i) for i in range(40)]
    model = Recognizer(lambda dim, classes: layers(dim, classes, hidden), 6, 160, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(120):
        loss, _ = model(features[:30], labels[:30], ids[:30], False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _, counts = model(features[30:], labels[30:], ids[30:], True)
    errors = sum(count.substitutions + count.insertions + count.deletions for count in counts)
    assert errors <= 0.02 * sum(count.total for count in counts)
    assert not model.too_short


def test_gradients_do_not_depend_on_batch_mates_or_on_what_pads_them():
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    transcripts = [[1, 2, 1], [3, 3, 4, 5, 1, 2, 2, 3, 1, 4, 5, 1], [2], []]
    features = [sung(transcript or [1], rng) for transcript in transcripts]
    labels = [torch.tensor(transcript, dtype=torch.int64) for transcript in transcripts]
    model = Recognizer(layers, 6, 160, 6)

    def gradients(rows: list[int]) -> list[Tensor]:
        loss, _ = model([features[i] for i in rows], [labels[i] for i in rows], list("abcd"[: len(rows)]), False)
        size = max(1, sum(len(labels[i]) for i in rows))
        return [size * part for part in torch.autograd.grad(loss, list(model.parameters()))]

    alone = [gradients([row]) for row in range(4)]
    for whole, *parts in zip(gradients([0, 1, 2, 3]), *alone, strict=True):
        torch.testing.assert_close(whole, sum(parts), rtol=1e-4, atol=1e-5)


def test_an_utterance_that_is_too_short_is_named_counted_and_scored_and_nothing_is_infinite(caplog):
    """Of three utterances one has four frames for five phones; the loss is that of the other two."""
    torch.manual_seed(0)
    labels = [torch.tensor([1, 2, 3, 4, 5]), torch.tensor([1, 2]), torch.tensor([1, 1])]
    features = [torch.randn(4, 6), torch.randn(4, 6), torch.randn(3, 6)]
    ids = ["too-short-1", "fits-1", "fits-2"]
    model = Recognizer(layers, 6, 160, 6)
    with caplog.at_level(logging.WARNING):
        loss, counts = model(features, labels, ids, True)
        model(features, labels, ids, True)
    assert [record.getMessage() for record in caplog.records] == [
        "utterance 'too-short-1' has 4 feature frames, but CTC needs 5 for its transcript: it is left out of the loss, "
        "and scored like any other"
    ], "once, however often it comes"
    assert model.too_short == {"too-short-1": (4, 5)}
    assert model.notes() == [
        "1 utterances have fewer feature frames than CTC needs for their transcripts, so they are left out of the "
        "loss, and scored like any other: too-short-1 (4 of 5)"
    ]
    torch.testing.assert_close(loss, model(features[1:], labels[1:], ids[1:], False)[0])
    assert [count.total for count in counts] == [5, 2, 2]
    alone, (count,) = model(features[:1], labels[:1], ids[:1], True)
    assert count == counts[0]
    assert alone == 0
    assert all(part.eq(0).all() for part in torch.autograd.grad(alone, list(model.parameters())))


def test_an_equal_neighbour_needs_a_blank_in_between():
    model = Recognizer(layers, 6, 160, 6)
    model([torch.zeros(3, 6)], [torch.tensor([2, 2, 2])], ["twice-the-same"], False)
    assert model.too_short == {"twice-the-same": (3, 5)}


def test_notes_name_three_utterances_and_count_the_others():
    model = Recognizer(layers, 6, 160, 6)
    ids = [f"u{number}" for number in range(5)]
    model([torch.zeros(1, 6)] * 5, [torch.tensor([1, 2])] * 5, ids, False)
    (note,) = model.notes()
    assert note.startswith("5 utterances have fewer feature frames")
    assert note.endswith("like any other: u0 (1 of 2), u1 (1 of 2), u2 (1 of 2) and 2 more")


def test_the_log_file_counts_what_was_too_short_and_dev_chooses_the_lowest_error(tmp_path):
    expert = build("phone_recognition", small(), expdir=tmp_path)
    spoken = expert.data.fold.dev[0]
    records: dict = {}
    expert("dev", [torch.zeros(1, 5)], [expert.label(spoken)], [spoken.id], records=records)
    (outcome,) = records["outcomes"]
    assert outcome.total == len(expert.label(spoken)) > 1, "scored like any other"
    assert expert.log_records("dev", records, None, 1) == ["best-states-dev.ckpt"]
    first, note = (tmp_path / "log.log").read_text().splitlines()
    assert first.startswith("best|phone_recognition/dev|step:1|err:")
    assert "1 utterances have fewer feature frames than CTC needs" in note
    assert spoken.id in note
    worse = {"outcomes": [outcome._replace(insertions=outcome.insertions + 1)]}
    better = {"outcomes": [outcome._replace(correct=outcome.total, substitutions=0, insertions=0, deletions=0)]}
    assert expert.log_records("dev", worse, None, 2) == []
    assert expert.log_records("test", better, None, 2) == [], "test must never choose a checkpoint"
    assert expert.log_records("dev", better, None, 3) == ["best-states-dev.ckpt"]


def test_outcomes_hold_the_edits_of_the_greedy_answer():
    """Logits are set by hand: 'AA B' is heard where 'AA B CH' was spoken, then 'B B' where 'B' was."""
    model = Recognizer(layers, 4, 160, 4)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(4))
        model.head.bias.zero_()
    heard = [torch.tensor([1, 1, 2, 0, 0]), torch.tensor([2, 0, 2])]
    features = [functional.one_hot(path, 4).float() * 9 for path in heard]
    _, counts = model(features, [torch.tensor([1, 2, 3]), torch.tensor([2])], ["a", "b"], True)
    assert counts == [Count(2, 3, deletions=1), Count(1, 1, insertions=1)]


def test_the_transcript_is_the_phones_without_silence():
    made = small()
    expert = build("phone_recognition", made)
    assert expert.targets.classes == ["<blank>", "AA", "B", "CH"]
    spoken = made.utterances[0]
    names = [segment.phone for segment in spoken.segments(made.phone_set) if segment.phone != "SIL"]
    assert [expert.targets.classes[label] for label in expert.label(spoken)] == names
    untimed = replace(spoken, phones=None, phone_names=("B", "SIL", "B", "AA"))
    assert expert.label(untimed).tolist() == [2, 2, 1]
