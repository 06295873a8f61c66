"""Prototype maps: one for each case and shift found among the heads of a trained upstream, for any number of frames.

Legend: L layers, H heads, N frames of the maps found, M frames of the maps made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cases import FLAT, NEAR, SIDED, VERTICAL, Case, describe
from .given_maps import fitted
from .metrics import by_offset, offsets, spread

MADE = {
    NEAR: "by offset alone, with the mean mass of each offset",
    SIDED: "by offset alone, with the mean mass of each offset",
    VERTICAL: "mean row, the same for every query",
    FLAT: "uniform",
}  # case -> how its prototype is made of the mean maps
RANDOM = "random"
EVEN = "even"
ITERATIONS = 50  # after 10 the mass of a hand-crafted map is right to 1e-7


@dataclass(frozen=True)
class Prototype:
    """A case and detail, and the heads (layer, head) whose mean maps have it.

    ``profile`` is of N frames: by offset (2 N - 1) where the case is relative, by column (N) where it is vertical, None
    where it is flat.
    """

    case: str
    detail: str
    shift: int
    heads: tuple[tuple[int, int], ...]
    profile: Tensor | None


def describe_all(maps: Tensor) -> list[list[Case]]:
    """The case of every map (L, H, N, N), by layer and head; raises ``ValueError`` as ``describe`` does."""
    return [[describe(head) for head in layer] for layer in maps]


def prototypes(maps: Tensor) -> list[Prototype]:
    """A prototype for each case and detail among mean maps (L, H, N, N), the most frequent first, then by layer and
    head. All flat maps have one, an even one: what scattered maps have in common is that they name no place."""
    groups: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for layer, row in enumerate(describe_all(maps)):
        for head, case in enumerate(row):
            detail = EVEN if case.name == FLAT else case.detail
            groups.setdefault((case.name, detail, case.shift), []).append((layer, head))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))  # stable
    return [Prototype(*key, tuple(heads), _profile(key[0], maps, heads)) for key, heads in ordered]


def _profile(case: str, maps: Tensor, heads: Sequence[tuple[int, int]]) -> Tensor | None:
    mean = torch.stack([maps[at] for at in heads]).double().mean(0)  # (N, N)
    if case in (NEAR, SIDED):
        return relative(mean)
    return mean.mean(0) if case == VERTICAL else None


def relative(attention: Tensor) -> Tensor:
    """The profile (2 N - 1) by offset of which a map (N, N) is made that has the same mass at every offset.

    A plain mean along the diagonals would not do: where a row is cut by the edges, normalising gives its other offsets
    more, and short offsets are in all rows. So the profile is scaled until the map made of it agrees (iterative
    proportional fitting, Deming and Stephan 1940); a map that depends on the offset but for its edges is given back.
    """
    want = by_offset(attention)
    profile = want / want.sum()
    for _ in range(ITERATIONS):
        made = by_offset(fitted(spread(profile)[None], len(attention), None)[0, 0])
        profile = profile * torch.where(made > 0, want / made, 0.0)
        profile = profile / profile.sum()
    return profile


def drawn(prototype: Prototype, num_frames: int) -> Tensor:
    """The map (M, M) float32 of a prototype; rows sum to 1.

    Offsets and columns that the N frames found did not have get nothing. Columns are counted from the end where the
    detail is ``end``, else from the start. A row that is left without weight becomes identity.
    """
    profile, blank = prototype.profile, torch.zeros(num_frames, num_frames, dtype=torch.float64)
    if profile is None:
        raw = blank + 1 / num_frames
    elif prototype.case == VERTICAL:
        from_end = prototype.detail == "end"
        row = profile.flip(0) if from_end else profile
        row = torch.cat([row[:num_frames], row.new_zeros(max(0, num_frames - len(row)))])
        raw = blank + (row.flip(0) if from_end else row)
    else:
        reach = (len(profile) - 1) // 2
        offset = offsets(num_frames)
        raw = profile[offset.clamp(-reach, reach) + reach].masked_fill(offset.abs() > reach, 0.0)
    return fitted(raw[None], num_frames, None)[0, 0].float()


def dealt(found: Sequence[Prototype], num_layers: int, num_heads: int, num_frames: int, seed: int) -> Tensor:
    """The set (L, H, M, M) float32: in every layer the prototypes, a head each, and then maps of random logits N(0, 1).

    So deals ``fixed_init`` its seven hand-crafted maps: what training makes of them can be compared, and the further
    heads are free to become what no prototype says.

    Raises:
        ValueError: when there are more prototypes than heads.
    """
    if len(found) > num_heads:
        raise ValueError(
            f"{len(found)} prototypes were found, and a set of {num_heads} heads has no room for one each: ask for "
            f"--heads {len(found)} or more, for an upstream with so many, or take --what means"
        )
    own = torch.stack([drawn(prototype, num_frames) for prototype in found])
    generator = torch.Generator().manual_seed(seed)
    rest = torch.randn(num_layers, num_heads - len(found), num_frames, num_frames, generator=generator).softmax(-1)
    return torch.cat([own.expand(num_layers, -1, -1, -1), rest], dim=1)
