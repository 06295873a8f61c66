"""A trained attention of which chosen heads use given maps; its values and its output projection stay.

Legend: B batch, n frames, D model dim, H heads, K head dim, N max_frames, h chosen heads.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...upstream.kernels.heads import merge_heads, split_heads, zero_padding

Maps = Callable[[Tensor, Tensor | None], Tensor]
"""(x (B, n, D), keep (B, n)) -> maps (B or 1, h, n, n), rows of valid queries sum to 1 over valid keys."""

OUTPUT = "output"  # what every attention calls the linear layer that joins its heads
TOLERANCE = 1e-3  # of what is rebuilt from maps and values, as a share of the largest output


class GivenMaps(nn.Module):
    """An attention of which some heads can be given maps; without any it computes what it always did.

    It needs no knowledge of the attention but two things. What enters its output projection are the mixed values of
    the heads, side by side; and a frame that is alone attends to itself alone, so that what enters then is its value.

    Args:
        attention: of the contract (``upstream/contract.py``), with a linear layer called ``output`` that joins heads.
        num_heads: H.

    Raises:
        ValueError: when there is no such layer.
    """

    def __init__(self, attention: nn.Module, num_heads: int) -> None:
        super().__init__()
        self.attention = attention
        self.num_heads = num_heads
        self.heads: list[int] = []
        self.maps: Maps | None = None
        named = [module for name, module in attention.named_modules() if name.rpartition(".")[2] == OUTPUT]
        if len(named) != 1 or not isinstance(named[0], nn.Linear):
            raise ValueError(
                f"{_kind(attention)} has {len(named)} layers called {OUTPUT!r}: maps can be given to an attention in "
                f"which one linear layer of that name joins the heads"
            )
        self.joining = (named[0],)  # in a tuple, so that its parameters are not counted twice

    def give(self, heads: Sequence[int], maps: Maps | None) -> None:
        """Let ``heads`` use ``maps`` from now on, and the others their own; no heads, no maps."""
        assert bool(heads) == (maps is not None), "maps for heads, or neither"
        self.heads, self.maps = list(heads), maps

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        if self.maps is None:
            return self.attention(x, keep)
        alone = x.flatten(0, 1)[:, None]  # (B*n, 1, D)
        values = split_heads(self._before_joining(alone, None).view_as(x), self.num_heads)  # (B, H, n, K)
        mixed = split_heads(self._before_joining(x, keep), self.num_heads).clone()
        mixed[:, self.heads] = self.maps(x, keep) @ values[:, self.heads]
        return zero_padding(self.joining[0](merge_heads(mixed)), keep)

    def _before_joining(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """What enters the output projection, (B, n, D)."""
        seen: list[Any] = []
        handle = self.joining[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self.attention(x, keep)
        finally:
            handle.remove()
        if len(seen) != 1 or seen[0].shape != x.shape:
            raise ValueError(
                f"{_kind(self.attention)} does not hand the mixed values of every frame to its layer {OUTPUT!r} once: "
                f"its heads cannot be told apart there"
            )
        return seen[0]


def constant(maps: Tensor) -> Maps:
    """The same maps (h, N, N) for every utterance, cut to its frames as `fitted` says."""
    return lambda x, keep: fitted(maps, x.shape[1], keep)


def fitted(maps: Tensor, num_frames: int, keep: Tensor | None) -> Tensor:
    """Maps (h, N, N) for utterances of n <= N frames: (B or 1, h, n, n).

    They are cut to the first n frames and to the valid ones, and their rows normalised anew; a row that has no weight
    left becomes identity (as in ``upstream/maps_file.py``).
    """
    assert num_frames <= maps.shape[-1], "maps reach no further than max_frames"
    cut = maps[None, :, :num_frames, :num_frames]
    if keep is not None:
        cut = cut * keep[:, None, None].to(cut.dtype)
    mass = cut.sum(-1, keepdim=True)
    itself = torch.eye(num_frames, dtype=cut.dtype, device=cut.device)
    return torch.where(mass > 0, cut / mass.clamp_min(torch.finfo(mass.dtype).tiny), itself)


@torch.no_grad()
def check_rebuilt(given: GivenMaps, x: Tensor, keep: Tensor | None) -> None:
    """Raises ``ValueError`` when an attention's own maps times its values do not give what it computes of ``x``."""
    attention: Any = given.attention
    want = attention(x, keep)
    given.give(range(given.num_heads), attention.weights)
    try:
        off = (given(x, keep) - want).abs().max() / want.abs().max().clamp_min(1e-6)
    finally:
        given.give([], None)
    if not off < TOLERANCE:
        raise ValueError(
            f"{_kind(attention)} is more than its maps: maps times values differ from what it computes by {off:.2g} of "
            f"the largest output, so that giving it other maps would tell nothing"
        )


def _kind(attention: nn.Module) -> str:
    return f"the attention {type(attention).__module__.rpartition('.')[0].rpartition('.')[2]!r}"
