"""Masked acoustic modelling: how much is hidden and how, and that the loss sees the hidden frames only."""

import pytest
import torch
from s3prl_attention.recipes.objective import ReconstructionHead, corrupt, mask_spans, masked_l1
from torch.nn import functional


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- which frames


@pytest.mark.parametrize(("share", "span"), [(0.15, 3), (0.15, 1), (0.3, 7)])
def test_the_share_of_the_frames_is_chosen(share, span):
    generator = seeded()
    chosen = torch.stack([mask_spans(400, share, span, generator) for _ in range(200)]).float()
    assert share * (1 - share) < float(chosen.mean()) <= share + 1e-6, (
        "spans may overlap, so a little less than the share"
    )
    inner = chosen[:, span:-span].mean(0)
    assert float(inner.min()) > share / 3, "no place is spared"
    assert float(inner.max()) < 2 * share, "no place is preferred"


@pytest.mark.parametrize("span", [2, 3, 5])
def test_frames_are_chosen_in_runs_of_the_span(span):
    generator, num_runs = seeded(), 0
    for _ in range(50):
        chosen = mask_spans(100, 0.15, span, generator)
        edges = torch.diff(torch.cat([torch.zeros(1), chosen.float(), torch.zeros(1)]))
        starts, ends = (edges == 1).nonzero(), (edges == -1).nonzero()
        assert (ends - starts).min() >= span
        num_runs += len(starts)
    assert 50 * 15 / span * 0.6 < num_runs < 50 * 15 / span, "some of them meet"


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 10])
def test_at_least_one_frame_is_chosen_however_short(num_frames):
    for seed in range(30):
        chosen = mask_spans(num_frames, 0.01, 3, seeded(seed))
        assert chosen.dtype == torch.bool
        assert chosen.shape == (num_frames,)
        assert chosen.any()


def test_the_generator_alone_decides():
    torch.manual_seed(0)
    first = mask_spans(50, 0.15, 3, seeded(5))
    torch.manual_seed(1)
    assert torch.equal(first, mask_spans(50, 0.15, 3, seeded(5)))
    assert not torch.equal(first, mask_spans(50, 0.15, 3, seeded(6)))


# --- how they are hidden


def test_80_percent_are_zeroed_10_replaced_10_left():
    frames = torch.arange(1.0, 41.0)[:, None] * torch.tensor([1.0, 100.0])  # every frame is unlike the others
    chosen = torch.zeros(40, dtype=torch.bool)
    chosen[10:16] = True
    generator, counts, trials = seeded(), {"zeroed": 0, "replaced": 0, "left": 0}, 4000
    for _ in range(trials):
        hidden = corrupt(frames, chosen, generator)
        assert torch.equal(hidden[~chosen], frames[~chosen]), "what is not chosen stays"
        if not hidden[chosen].any():
            counts["zeroed"] += 1
        elif torch.equal(hidden, frames):
            counts["left"] += 1
        else:
            assert all((row == frames).all(1).any() for row in hidden[chosen]), "replaced by frames of the utterance"
            counts["replaced"] += 1
    for how, share in (("zeroed", 0.8), ("replaced", 0.1), ("left", 0.1)):
        deviation = (share * (1 - share) / trials) ** 0.5
        assert abs(counts[how] / trials - share) < 4 * deviation, f"{how}: {counts[how]} of {trials}"


def test_hiding_does_not_change_the_frames_themselves():
    frames = torch.randn(20, 3)
    before, chosen, generator = frames.clone(), mask_spans(20, 0.3, 3, seeded()), seeded()
    for _ in range(60):
        corrupt(frames, chosen, generator)
    assert torch.equal(frames, before)


def test_each_replaced_frame_is_drawn_by_itself():
    frames, chosen = torch.arange(1.0, 101.0)[:, None], torch.ones(100, dtype=torch.bool)
    generator = seeded()
    replaced = [
        hidden
        for hidden in (corrupt(frames, chosen, generator) for _ in range(200))
        if hidden.any() and not torch.equal(hidden, frames)
    ]
    assert len(replaced) > 5
    assert all(len(hidden.unique()) > 40 for hidden in replaced)


# --- the loss


class Inner(torch.nn.Module):
    """An encoder whose last state is its input doubled."""

    def forward(self, frames, keep):
        return [frames, 2 * frames]


def batch():
    generator = seeded()
    corrupted, target = (torch.randn(2, 6, 4, generator=generator) for _ in range(2))
    chosen = torch.tensor([[0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]], dtype=torch.bool)
    keep = torch.arange(6) < torch.tensor([[6], [4]])
    return corrupted, target, chosen, keep


def test_the_loss_is_the_mean_absolute_error_on_the_chosen_frames():
    corrupted, target, chosen, keep = batch()
    loss = masked_l1(Inner(), torch.nn.Identity(), corrupted, target, chosen, keep)
    by_hand = [
        abs(float(2 * corrupted[b, i, c] - target[b, i, c])) for b, i in ((0, 1), (0, 2), (1, 2)) for c in range(4)
    ]
    assert float(loss) == pytest.approx(sum(by_hand) / 12, rel=1e-5)


def test_targets_that_are_not_chosen_change_nothing():
    corrupted, target, chosen, keep = batch()
    loss = masked_l1(Inner(), torch.nn.Identity(), corrupted, target, chosen, keep)
    others = torch.where(chosen[..., None], target, torch.full((), torch.nan))
    assert torch.equal(masked_l1(Inner(), torch.nn.Identity(), corrupted, others, chosen, keep), loss)
    other = target.clone()
    other[1, 2, 3] += 1
    assert not torch.equal(masked_l1(Inner(), torch.nn.Identity(), corrupted, other, chosen, keep), loss)


def test_the_encoder_sees_the_corrupted_frames_and_the_mask():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, frames, keep):
            seen.append((frames, keep))
            return [frames]

    corrupted, target, chosen, keep = batch()
    masked_l1(Spy(), torch.nn.Identity(), corrupted, target, chosen, keep)
    assert seen[0][0] is corrupted
    assert seen[0][1] is keep


def test_the_head_is_dense_gelu_norm_linear():
    head, hidden = ReconstructionHead(hidden_dim=4, output_dim=7), torch.randn(2, 3, 4)
    inner = functional.layer_norm(
        functional.gelu(hidden @ head.dense.weight.T + head.dense.bias), (4,), head.norm.weight, head.norm.bias
    )
    torch.testing.assert_close(head(hidden), inner @ head.output.weight.T + head.output.bias)
    assert head(hidden).shape == (2, 3, 7)
