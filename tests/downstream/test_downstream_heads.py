"""Heads: the cheap form of the concatenated frames equals the plain one; hidden layers are where they should be."""

import pytest
import torch
from s3prl_attention.downstream.alignment import neighbours, read_frames
from s3prl_attention.downstream.heads import Concat, Pointwise, layers
from torch import Tensor, nn

LABELS = (7, 1, 12, 0, 30)


def concatenated(head: Concat, rows: Tensor, frame: Tensor, num_labels: tuple[int, ...]) -> Tensor:
    """The definition: nine frames side by side, zeros beyond the ends, one linear layer."""
    half, outputs = head.width // 2, []
    for part in frame.split(list(num_labels)):
        for i in range(len(part)):
            near = [
                rows[part[j]] if 0 <= j < len(part) else torch.zeros_like(rows[0])
                for j in range(i - half, i + half + 1)
            ]
            outputs.append(head.linear(torch.cat(near)))
    return torch.stack(outputs).log_softmax(-1)


@pytest.mark.parametrize("rate", [160, 320, 480])
@pytest.mark.parametrize("width", [9, 3])
def test_neighbouring_frames_equal_the_concatenated_form_gradients_included(rate: int, width: int):
    torch.manual_seed(0)
    num_features = [max(1, -(-count * 160 // rate)) for count in LABELS]
    frame = read_frames(LABELS, num_features, rate, [str(count) for count in LABELS])
    rows = torch.randn(sum(num_features), 6, dtype=torch.float64, requires_grad=True)
    head = Concat(6, 4, width).double()
    weights = torch.randn(sum(LABELS), 4, dtype=torch.float64)
    found = []
    for form in (head, lambda *given: concatenated(head, *given)):
        scores = form(rows, frame, LABELS)
        gradients = torch.autograd.grad((scores * weights).sum(), [rows, *head.parameters()])
        found.append((scores, *gradients))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)
    assert all(bool(gradient.abs().sum() > 0) for gradient in found[0][1:])


def test_neighbours_stop_at_the_ends_of_their_utterance():
    place, inside = neighbours([2, 3], 3)
    assert place[inside].tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 3, 4]
    assert inside.tolist() == [
        [False, True, True], [True, True, False],
        [False, True, True], [True, True, True], [True, True, False],
    ]  # fmt: skip


def test_each_label_reads_the_row_under_it():
    torch.manual_seed(0)
    head = Pointwise(5, 3, hidden=(8,))
    rows, frame = torch.randn(4, 5), torch.tensor([0, 0, 1, 3, 3])
    torch.testing.assert_close(head(rows, frame, [3, 2]), head.layers(rows[frame]).log_softmax(-1))


def test_layers_are_linear_with_relu_in_between():
    assert isinstance(layers(5, 3), nn.Linear)
    kinds = [type(part) for part in layers(5, 3, (7, 8))]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(p.shape) for p in layers(5, 3, (7, 8)).parameters() if p.dim() == 2] == [(7, 5), (8, 7), (3, 8)]
