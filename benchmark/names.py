"""The rows that differ from all others, by name; cheap to import."""

from ..upstream.s3prl_upstreams import PREFIX

BASELINE = "self_attention"  # what times and scores are compared with
MEL = "mel"  # the row without an encoder; scores are compared with it where the baseline has none


def seeds_text(seed: int, probe_seed: int) -> str:
    """``seed 0``, or both where pre-training and probe have different ones."""
    return f"seed {seed}" if seed == probe_seed else f"seed {seed}, probe seed {probe_seed}"


def is_foreign(upstream: str) -> bool:
    """Whether a row is one of s3prl's own upstreams, ``s3prl:NAME``."""
    return upstream.startswith(PREFIX)


def is_pretrained(upstream: str) -> bool:
    """Whether a row is one of our attentions in the common encoder, which is pre-trained here."""
    return upstream != MEL and not is_foreign(upstream)
