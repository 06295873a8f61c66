"""The weights and sizes of ``self_attention`` as s3prl's ``TransformerModel`` (Mockingjay, Audio ALBERT) lays them out.

Our sinusoid has sines before cosines, s3prl's has them by turns. An encoder whose ``positions`` are ``halves`` fits
s3prl's after its hidden dimensions are put into that order, in every weight that writes to the residual stream or reads
from it; the hidden states are then the same numbers in that order. With ``positions=interleaved`` nothing moves.

Legend: D model dim, I input_dim, F inner size of the feed-forward block, C outputs of the head.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from s3prl.upstream.mockingjay.model import TransformerConfig
from torch import Tensor

from .encoder import EncoderOptions

ENCODER, HEAD = "Transformer", "SpecHead"  # the sections of s3prl's file
WRITES, READS, INSIDE = "writes", "reads", "inside"  # to or from the residual stream, or neither
INITIALIZER_RANGE = 0.02

# our name, s3prl's, the use of the stream, and (outputs, inputs) of a linear layer or (size,) of a LayerNorm
INPUT_PARTS = (
    ("encoder.input", "input_representations.spec_transform", WRITES, "DI"),
    ("encoder.input_norm", "input_representations.LayerNorm", WRITES, "D"),
)
LAYER_PARTS = (
    ("attention.output", "attention.output.dense", WRITES, "DD"),
    ("attention_norm", "attention.output.LayerNorm", WRITES, "D"),
    ("ffn_in", "intermediate.dense", READS, "FD"),
    ("ffn_out", "output.dense", WRITES, "DF"),
    ("ffn_norm", "output.LayerNorm", WRITES, "D"),
)
HEAD_PARTS = (
    ("head.dense", "dense", READS, "DD"),
    ("head.norm", "LayerNorm", INSIDE, "D"),
    ("head.output", "output", INSIDE, "CD"),
)

States = dict[str, dict[str, Tensor]]  # section -> name -> tensor


@dataclass(frozen=True)
class Place:
    """Where one tensor stands in both layouts.

    Args:
        section: of s3prl's file.
        theirs: its name in that section.
        ours: its name in our checkpoint.
        shape: in s3prl's file.
        third: 0, 1 or 2 where it is the queries', keys' or values' third of ours.
        stream: the axis that lies along the residual stream, if one does.
    """

    section: str
    theirs: str
    ours: str
    shape: tuple[int, ...]
    third: int | None = None
    stream: int | None = None

    @property
    def our_shape(self) -> tuple[int, ...]:
        """In our checkpoint."""
        return self.shape if self.third is None else (3 * self.shape[0], *self.shape[1:])


def places(options: EncoderOptions, num_outputs: int | None) -> Iterator[Place]:
    """All tensors of an encoder; a shared layer stands in s3prl's file once for every layer.

    Args:
        options: the encoder's.
        num_outputs: C, or None where there is no head.
    """
    ffn_dim = options.ffn_ratio * options.hidden_dim
    sizes = {"D": options.hidden_dim, "I": options.input_dim, "F": ffn_dim, "C": num_outputs or 0}

    def both(section: str, theirs: str, ours: str, use: str, shape: str, third: int | None = None) -> Iterator[Place]:
        """Weight and bias. What writes has the stream along its outputs; what reads along its weight's inputs."""
        for kind, axes in (("weight", shape), ("bias", shape[:1])):
            stream = 0 if use == WRITES else 1 if use == READS and kind == "weight" else None
            lengths = tuple(sizes[axis] for axis in axes)
            yield Place(section, f"{theirs}.{kind}", f"{ours}.{kind}", lengths, third, stream)

    for ours, theirs, use, shape in INPUT_PARTS:
        yield from both(ENCODER, theirs, ours, use, shape)
    for index in range(options.num_layers):
        there, here = f"encoder.layer.{index}", f"encoder.layers.{0 if options.shared_layers else index}"
        for third, name in enumerate(("query", "key", "value")):
            fused = f"{here}.attention.query_key_value"
            yield from both(ENCODER, f"{there}.attention.self.{name}", fused, READS, "DD", third)
        for ours, theirs, use, shape in LAYER_PARTS:
            yield from both(ENCODER, f"{there}.{theirs}", f"{here}.{ours}", use, shape)
    if num_outputs is not None:
        for ours, theirs, use, shape in HEAD_PARTS:
            yield from both(HEAD, theirs, ours, use, shape)


def interleaving(hidden_dim: int) -> Tensor:
    """(D,): the dimension of ours that comes to each of s3prl's: the first half to even ones, the second to odd."""
    return torch.arange(hidden_dim).view(2, -1).T.flatten()


def to_s3prl(tensors: Mapping[str, Tensor], options: EncoderOptions) -> States:
    """Our tensors under s3prl's names and in its order; the head's when there are any.

    Raises:
        ValueError: naming tensors that are missing or of another shape.
    """
    with_head = any(name.startswith("head.") for name in tensors)
    known = list(places(options, _num_outputs(tensors, "head.output") if with_head else None))
    _check({place.ours: place.our_shape for place in known}, tensors)
    order = interleaving(options.hidden_dim) if options.positions == "halves" else None
    made: dict[tuple[str, int | None], Tensor] = {}  # so that a shared layer is stored once
    states: States = {}
    for place in known:
        if (place.ours, place.third) not in made:
            tensor = tensors[place.ours]
            tensor = tensor if place.third is None else tensor.chunk(3)[place.third]
            made[place.ours, place.third] = _reordered(tensor, place.stream, order).clone()
        states.setdefault(place.section, {})[place.theirs] = made[place.ours, place.third]
    return states


def from_s3prl(states: Mapping[str, Mapping[str, Tensor]], options: EncoderOptions) -> dict[str, Tensor]:
    """s3prl's tensors under our names and in our order: ``encoder.*``, and ``head.*`` where there is a ``SpecHead``.

    Raises:
        ValueError: naming tensors that are missing, unexpected, of another shape, or differ between layers that are
            shared.
    """
    known = list(places(options, _num_outputs(states[HEAD], "output") if HEAD in states else None))
    for section in states:
        shapes = {place.theirs: place.shape for place in known if place.section == section}
        _check(shapes, states[section], section, exactly=True)
    order = interleaving(options.hidden_dim).argsort() if options.positions == "halves" else None
    thirds: dict[str, dict[int, Tensor]] = {}
    for place in known:
        tensor = _reordered(states[place.section][place.theirs], place.stream, order)
        first = thirds.setdefault(place.ours, {}).setdefault(place.third or 0, tensor)
        if first is not tensor and not torch.equal(first, tensor):
            raise ValueError(f"share_layer is true, but {place.theirs} differs from that of layer 0")
    return {name: torch.cat(list(parts.values())) if len(parts) > 1 else parts[0] for name, parts in thirds.items()}


def _num_outputs(tensors: Mapping[str, Any], layer: str) -> int:
    """C, as the bias of the head's last ``layer`` has it, or its weight where that one is damaged."""
    last = ((tensors.get(f"{layer}.{kind}"), dims) for kind, dims in (("bias", 1), ("weight", 2)))
    return next((len(tensor) for tensor, dims in last if torch.is_tensor(tensor) and tensor.dim() == dims), 0)


def _reordered(tensor: Tensor, stream: int | None, order: Tensor | None) -> Tensor:
    return tensor if order is None or stream is None else tensor.index_select(stream, order)


def _check(
    shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, Any], section: str = "", exactly: bool = False
) -> None:
    """Refuse tensors that are missing or of another shape; ``exactly`` refuses others too."""
    prefix = f"{section}." if section else ""
    wrong = [f"{prefix}{name} is missing" for name in sorted(shapes.keys() - found.keys())]
    if exactly:
        wrong += [f"{prefix}{name} is unexpected" for name in sorted(map(str, found.keys() - shapes.keys()))]
    for name in sorted(shapes.keys() & found.keys()):
        if not torch.is_tensor(found[name]) or not found[name].is_floating_point():
            wrong.append(f"{prefix}{name} is no tensor of floats")
        elif (shape := tuple(found[name].shape)) != shapes[name]:
            wrong.append(f"{prefix}{name} is {shape}, not {shapes[name]}")
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(f"{'; '.join(wrong[:4])}{more}: restore the file, or correct the sizes in it")


def transformer_config(options: EncoderOptions) -> dict[str, Any]:
    """The options as s3prl's section ``transformer``."""
    return {
        "input_dim": options.input_dim,
        "hidden_size": options.hidden_dim,
        "num_hidden_layers": options.num_layers,
        "num_attention_heads": options.num_heads,
        "intermediate_size": options.ffn_ratio * options.hidden_dim,
        "hidden_act": "gelu",
        "hidden_dropout_prob": options.dropout,
        "attention_probs_dropout_prob": options.attention_dropout,
        "initializer_range": INITIALIZER_RANGE,
        "layer_norm_eps": options.norm_eps,
        "share_layer": options.shared_layers,
        "pre_layer_norm": False,
    }


def encoder_options(config: Mapping[str, Any], input_dim: int, max_frames: int) -> dict[str, Any]:
    """s3prl's section ``transformer`` as our options, for frames of ``input_dim`` numbers every 10 ms.

    Raises:
        ValueError: for what it lacks, and for what our encoder cannot be.
    """
    try:
        theirs = TransformerConfig(config)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its section 'transformer' cannot be read ({type(error).__name__}: {error})") from None
    if theirs.pre_layer_norm:
        raise ValueError("pre_layer_norm is true, but our encoder has its LayerNorm after every block: keep to s3prl")
    if theirs.hidden_act != "gelu":
        raise ValueError(f"hidden_act is {theirs.hidden_act!r}, but our encoder has gelu only: keep to s3prl")
    if theirs.hidden_size < 1:
        raise ValueError(f"hidden_size must be at least 1, got {theirs.hidden_size}: restore the file")
    ratio, rest = divmod(theirs.intermediate_size, theirs.hidden_size)
    if rest:
        raise ValueError(
            f"intermediate_size must be a multiple of hidden_size for our ffn_ratio, "
            f"got {theirs.intermediate_size} and {theirs.hidden_size}: keep to s3prl"
        )
    return {
        "hidden_dim": theirs.hidden_size,
        "num_heads": theirs.num_attention_heads,
        "num_layers": theirs.num_hidden_layers,
        "ffn_ratio": ratio,
        "max_frames": max_frames,
        "shared_layers": theirs.share_layer,
        "dropout": theirs.hidden_dropout_prob,
        "attention_dropout": theirs.attention_probs_dropout_prob,
        "stack": 1,
        "num_mels": input_dim,
        "weight_init": "bert",
        "positions": "interleaved",
        "norm_eps": theirs.layer_norm_eps,
    }
