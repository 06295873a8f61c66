"""A made-up ``s3prl.hub`` with upstreams that work, that fail and that mislead; a tiny checkpoint for the real one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


class Fake(nn.Module):
    """Two hidden states of dim 6 every 20 ms, which depend on padding; ``batches`` counts the waveforms of each call.

    A frame begins every 320 samples and takes 400, so that there may be one less than the rate tells.
    """

    def __init__(self, ckpt: str | None = None) -> None:
        super().__init__()
        print("this goes to stderr")
        self.linear = nn.Linear(8, 6)
        self.register_buffer("noise", torch.randn(3))
        if ckpt is not None:
            self.linear.load_state_dict(torch.load(ckpt, weights_only=True))
        self.dropout = nn.Dropout(0.5)
        self.batches: list[int] = []

    def get_downsample_rates(self, key: str) -> int:
        assert key == "hidden_states"
        return 320

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        self.batches.append(len(wavs))
        frames = pad_sequence(wavs, batch_first=True).unfold(1, 400, 320)  # (B, t, 400)
        energies = (frames.unflatten(-1, (8, 50)).square().mean(-1) + 1e-6).log()  # (B, t, 8)
        first = self.dropout(self.linear(energies - energies.mean(1, keepdim=True)))
        return {"hidden_states": (first, first.tanh()), "last_hidden_state": first}


class Odd(Fake):
    """One hidden state is of another size."""

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        first, second = super().forward(wavs)["hidden_states"]
        return {"hidden_states": [first, second[..., :2]]}


def offline(*args: Any, **kwargs: Any) -> nn.Module:
    """What s3prl's download does without a network: one error while another is handled."""
    try:
        raise URLError("planted: no route")
    except URLError:
        return {}["content-length"]


def lacking(*args: Any, **kwargs: Any) -> nn.Module:
    raise ModuleNotFoundError("No module named 'fairseq'", name="fairseq")


def broken(*args: Any, **kwargs: Any) -> nn.Module:
    raise RuntimeError("planted:\nweights of another size")


class Hub(SimpleNamespace):
    """What ``s3prl.hub`` offers; ``offline`` fails until ``online`` is called."""

    def options(self) -> list[str]:
        return [name for name, entry in vars(self).items() if callable(entry)]

    def online(self) -> None:
        self.fake_base = lambda **given: Fake()


def fake_local(ckpt: str, *args: Any, **kwargs: Any) -> nn.Module:
    return Fake(ckpt)


def fake(*args: Any, **kwargs: Any) -> nn.Module:
    return Fake()


def make_hub() -> Hub:
    """The fixture ``fake_hub`` puts it into the place of ``s3prl.hub``."""
    found = Hub(fake=fake, fake_local=fake_local, fake_base=offline, fake_url=offline, lacking=lacking, broken=broken)
    found.odd, found.Path = (lambda **given: Odd()), (lambda **given: Path())
    return found


def save_fake(path: Path, seed: int = 0) -> Path:
    """A checkpoint for ``fake_local``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    torch.save({"weight": torch.randn(6, 8, generator=generator), "bias": torch.zeros(6)}, path)
    return path


def save_mockingjay(path: Path) -> Path:
    """A Mockingjay of two layers and dim 16 on 20 Mel bands, as s3prl's pre-training saves it."""
    from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel, TransformerSpecPredictionHead

    transformer = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "share_layer": False,
        "pre_layer_norm": False,
    }
    mel = {"feat_type": "mel", "log": True, "delta": 0, "cmvn": True}
    audio = {"win_ms": 25, "hop_ms": 10, "n_freq": 201, "n_mels": 20, "n_mfcc": 13, "input": mel, "target_level": -25}
    torch.manual_seed(0)
    config = TransformerConfig(transformer)
    torch.save(
        {
            "Transformer": TransformerModel(config, 20).state_dict(),
            "SpecHead": TransformerSpecPredictionHead(config, 20).state_dict(),
            "Config": {},
            "Upstream_Config": {"transformer": transformer, "task": {"sequence_length": 0}, "audio": audio},
        },
        path,
    )
    return path
