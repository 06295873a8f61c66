"""Checkpoints of ours and of s3prl's, with weights that all differ from where they start."""

import argparse

import pytest
import torch
from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel, TransformerSpecPredictionHead
from s3prl_attention.recipes.objective import ReconstructionHead
from s3prl_attention.upstream import load

SIZES = {"hidden_dim": 48, "num_heads": 6, "num_layers": 3, "max_frames": 700, "ffn_ratio": 3, "dropout": 0.25}
BOTH = pytest.mark.parametrize("shared", [False, True], ids=["unshared", "shared"])
POSITIONS = pytest.mark.parametrize("positions", ["halves", "interleaved"])


def trained(module):
    """All weights moved from where they start, so that biases, norms and every dimension differ."""
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return module


def save(folder, with_head=True, **options):
    """A checkpoint of ours with all that one of a pre-training has."""
    torch.manual_seed(0)
    expert = trained(load("self_attention", **{**SIZES, **options}))
    expert.log_mel.fit(torch.randn(80), 1 + torch.rand(80))
    head = ReconstructionHead(hidden_dim=expert.options.hidden_dim, output_dim=expert.options.input_dim)
    expert.save(folder, {"seed": 3, "recipe": {"upstream": "self_attention"}}, trained(head) if with_head else None)
    return folder


def write_theirs(path, input_dim=240, output_dim=240, **changed):
    """A file as s3prl's pre-training writes it: ``changed`` are entries of its section transformer."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "hidden_act": "gelu",
        "intermediate_size": 96, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2,
        "initializer_range": 0.02, "layer_norm_eps": "1e-12", "share_layer": False, "pre_layer_norm": False,
    }  # fmt: skip
    config = {**sizes, **changed}
    model = trained(TransformerModel(TransformerConfig(config), input_dim))
    head = trained(TransformerSpecPredictionHead(TransformerConfig(config), output_dim))
    optimizer = torch.optim.AdamW(model.parameters())
    states = {
        "Optimizer": optimizer.state_dict(),
        "Step": 7,
        "Args": argparse.Namespace(upstream="mockingjay", seed=1),
        "Config": {"runner": {"total_steps": 9}},
        "SpecHead": head.state_dict(),
        "Transformer": model.state_dict(),
        "Upstream_Config": {
            "transformer": config,
            "task": {"sequence_length": 1500},
            "audio": {
                "kaldi": {"feat_type": "fbank", "fbank": {"num_mel_bins": 80}},
                "delta": {"order": 2, "win_length": 5},
                "cmvn": {"use_cmvn": True},
            },
        },
    }
    torch.save(states, path)
    return model.eval()
