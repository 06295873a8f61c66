"""The s3prl contract: waveforms in, hidden states at 10 ms out.

Legend: B batch, T 10 ms frames, n stacked frames, D model dim, L layers.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor, nn

from .checkpoint import check_fit, check_shape, load_checkpoint, part, restore, save_checkpoint
from .contract import Entry, entry
from .encoder import Encoder, EncoderOptions, initialise
from .features import HOP_SAMPLES, LogMel, check_batch, pad_frames, stack_frames
from .maps_file import how_to_make_maps, read_maps
from .options import fields, typed
from .plain_yaml import read_yaml
from .registry import nearest

LONG_INPUT = ("error", "windows")


class UpstreamExpert(UpstreamBase):
    """One attention inside the common encoder, as an s3prl upstream.

    Args:
        name: a folder under ``upstream/`` or a name that another package registered.
        ckpt: a checkpoint folder; without one the weights are random.
        model_config: a yaml file of options, for s3prl's ``-g``.
        refresh: s3prl's switch to download again; nothing is downloaded here.
        long_input: what happens to utterances of more than ``max_frames`` stacked frames: ``error`` leaves it to the
            attention, ``windows`` encodes them in the fewest windows of equal length.
        options: those of ``EncoderOptions`` and of the attention. With ``ckpt`` they may only repeat what it says.

    Raises:
        ValueError: for an unknown name or option, a wrong value, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        name: str,
        ckpt: str | Path | None = None,
        model_config: str | Path | None = None,
        refresh: bool = False,
        long_input: str = "error",
        **options: Any,
    ) -> None:
        super().__init__()
        del refresh
        if long_input not in LONG_INPUT:
            raise ValueError(f"long_input cannot be {long_input!r}: {nearest(long_input, list(LONG_INPUT))}")
        if model_config is not None:
            options = {**read_options(model_config), **options}
        tensors = None
        if ckpt is not None:
            config, tensors = load_checkpoint(ckpt)
            options = agreed(name, ckpt, config, options)
        self.name = name
        self.long_input = long_input
        try:
            self.options, self.own_options = split_options(name, options)
        except ValueError as error:
            raise ValueError(f"{ckpt}: {error}" if ckpt is not None else str(error)) from None
        if tensors is not None:
            check_shape(tensors, "log_mel.mean", (self.options.num_mels,), str(ckpt))
            check_sizes(entry(name), self.options, asdict(self.own_options), tensors, str(ckpt))
        self.frame_repeat = self.options.stack
        self.log_mel = LogMel(num_mels=self.options.num_mels)
        self.encoder = build_encoder(entry(name), self.options, asdict(self.own_options))
        if tensors is None:
            self._start_from_maps()
        else:
            own = {key: value for key, value in tensors.items() if not key.startswith("head.")}
            restore(self, own, Path(ckpt or ""))

    @property
    def entry(self) -> Entry:
        """The attention's folder; looked up, not kept, because functions in it cannot be pickled."""
        return entry(self.name)

    def _start_from_maps(self) -> None:
        """Hand each layer its maps from the file that the option ``maps`` names, where there is one."""
        own, info = asdict(self.own_options), self.entry.info
        source = info.needs_maps_of(own)
        if source and info.starts_when:  # asked for; one that always takes maps starts at random without them
            raise ValueError(how_to_make_maps(self.name, source))
        if own.get("maps"):
            attentions: list[Any] = [layer.attention for layer in self.encoder.layers]
            maps = read_maps(own["maps"], len(attentions), self.options.num_heads, self.options.max_frames)
            for attention, start in zip(attentions, maps, strict=True):
                attention.start_from(start)

    def get_downsample_rates(self, key: str) -> int:
        """Samples a hidden state: 160 (10 ms), whatever the stacking."""
        del key
        return HOP_SAMPLES

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Encode waveforms.

        Args:
            wavs: B waveforms (S_i,), float, 16 kHz.

        Returns:
            ``hidden_states``: L + 1 tensors (B, T, D), T = ceil(longest S / 160), zero beyond an utterance's end;
            ``last_hidden_state``: the last of them.
        """
        check_batch(self.name, wavs)
        stacked = [stack_frames(self.log_mel(wav), self.options.stack) for wav in wavs]
        windows = [window for frames in stacked for window in self._windows(frames)]
        batch, keep = pad_frames(windows)
        states = self.encoder(batch.to(self.encoder.input.weight.dtype), keep)
        lengths = [len(window) for window in windows]
        longest = max(math.ceil(len(wav) / HOP_SAMPLES) for wav in wavs)
        hidden = [self._unstack(state, lengths, wavs, longest) for state in states]
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}

    def _windows(self, frames: Tensor) -> list[Tensor]:
        """An utterance (n, input_dim) whole, or in windows when it is longer than max_frames and they are allowed."""
        parts = math.ceil(len(frames) / self.options.max_frames)
        if parts == 1 or self.long_input == "error":
            return [frames]
        return list(frames.tensor_split(parts))

    def _unstack(self, state: Tensor, lengths: list[int], wavs: list[Tensor], longest: int) -> Tensor:
        """Windows (W, n, D) back to utterances (B, T, D): joined, repeated ``stack`` times, zero after the end."""
        windows = iter(zip(state, lengths, strict=True))
        out = state.new_zeros(len(wavs), longest, state.shape[-1])
        for row, wav in enumerate(wavs):
            frames = math.ceil(len(wav) / HOP_SAMPLES)
            wanted = math.ceil(frames / self.options.stack)
            pieces: list[Tensor] = []
            while sum(len(piece) for piece in pieces) < wanted:
                window, length = next(windows)
                pieces.append(window[:length])
            out[row, :frames] = torch.cat(pieces).repeat_interleave(self.options.stack, dim=0)[:frames]
        return out

    def save(self, folder: Path, lineage: dict[str, Any] | None = None, head: nn.Module | None = None) -> None:
        """Write a checkpoint that ``load(name, ckpt=folder)`` restores, in float32 whatever the expert was cast to;
        ``lineage`` tells how it came about."""
        tensors = dict(self.state_dict())
        if head is not None:
            tensors |= {f"head.{key}": value for key, value in head.state_dict().items()}
        tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
        config = {"upstream": self.name, "options": {**asdict(self.options), **asdict(self.own_options)}}
        save_checkpoint(folder, tensors, {**config, "lineage": lineage or {}})


def build_encoder(found: Entry, options: EncoderOptions, own: Mapping[str, Any]) -> Encoder:
    """An encoder with random weights; ``own`` are the attention's options, of which ``maps`` is not looked at."""

    def attention() -> nn.Module:
        return found.attention(
            hidden_dim=options.hidden_dim,
            num_heads=options.num_heads,
            max_frames=options.max_frames,
            dropout=options.attention_dropout,
            **own,
        )

    encoder = Encoder(options, attention)
    initialise(encoder, options.weight_init)
    return encoder


def restored_encoder(config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str | Path) -> Encoder:
    """The encoder of a checkpoint that was read; raises ``ValueError`` when config and tensors do not describe one."""
    name, saved = str(config.get("upstream")), saved_options(config, where)
    try:
        options, own = split_options(name, saved)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    check_sizes(entry(name), options, asdict(own), tensors, where)
    encoder = build_encoder(entry(name), options, asdict(own))
    restore(encoder, part(tensors, "encoder."), where)
    return encoder


def check_sizes(
    found: Entry, options: EncoderOptions, own: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str | Path
) -> None:
    """Raises ``ValueError`` when a checkpoint's tensors are not those of the encoder that its options describe: before
    one is made, for whose sizes there may be no memory."""
    wanted = 1 if options.shared_layers else options.num_layers
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layers.") and name.count(".") > 2}
    if len(layers) != wanted:
        raise ValueError(f"{where} does not fit the model: it has {len(layers)} distinct layers, not {wanted}")
    try:
        with torch.device("meta"):  # shapes without numbers
            encoder = build_encoder(found, options, own)
    except NotImplementedError:  # by a plug-in that looks at its numbers while it is built
        return
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        told = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{where}: an encoder of its options cannot be built ({told}): pre-train again") from None
    encoders = {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    check_fit(nn.ModuleDict({"encoder": encoder}), encoders, where)


def split_options(name: str, options: dict[str, Any]) -> tuple[EncoderOptions, Any]:
    """Sort flat options into the encoder's and the attention's own; every mistake is told at once."""
    found = entry(name)
    common, own = fields(EncoderOptions), fields(found.options)
    where = f"upstream {name!r}"
    unknown = [key for key in options if key not in common and key not in own]
    wrong = [f"{where}: no option {key!r} ({nearest(key, common + own)})" for key in unknown]
    built: list[Any] = []
    for kind, known in ((EncoderOptions, common), (found.options, own)):
        try:
            built.append(typed(kind, {key: value for key, value in options.items() if key in known}, where))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    encoder, attention = built
    if encoder.num_heads < found.info.min_heads:
        raise ValueError(f"{name} needs at least {found.info.min_heads} heads, got num_heads={encoder.num_heads}")
    return encoder, attention


def agreed(name: str, ckpt: str | Path, config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a checkpoint, provided that it is one of ``name`` and that ``options`` do not contradict it."""
    if config.get("upstream") != name:
        raise ValueError(f"{ckpt} is a checkpoint of upstream {config.get('upstream')!r}, not of {name!r}")
    if config.get("encoder_only"):
        raise ValueError(
            f"{ckpt} holds an encoder alone, which was trained on other features than ours: take it with "
            f"s3prl_attention.upstream.load_encoder, and give it frames of its own features"
        )
    saved = saved_options(config, ckpt)
    unknown = [key for key in options if key not in saved]
    if unknown:
        raise ValueError(f"{ckpt} has no option {unknown[0]!r} ({nearest(unknown[0], list(saved))})")
    differing = [key for key, value in options.items() if saved[key] != value]
    wrong = [f"{key}={options[key]!r} (the checkpoint has {saved[key]!r})" for key in differing]
    if wrong:
        raise ValueError(f"{ckpt} was made with other options: {', '.join(wrong)}; leave them out")
    return saved


def saved_options(config: Mapping[str, Any], ckpt: str | Path) -> dict[str, Any]:
    """The options in a checkpoint's config.yaml; those that are younger than the checkpoint have their defaults."""
    saved = config.get("options")
    if not isinstance(saved, dict):
        raise ValueError(f"{ckpt} lacks 'options' in its config.yaml: restore it or pre-train again")
    return {**asdict(EncoderOptions()), **saved}


def read_options(path: str | Path) -> dict[str, Any]:
    """Options from a yaml file; raises ``ValueError`` when it is missing or no mapping."""
    options = read_yaml(path, "correct it, or name another file")
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold options as 'name: value' lines")
    return options
