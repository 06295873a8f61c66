"""What rows are called, and the rows that differ from all others; cheap to import."""

import re

from ..upstream.s3prl_upstreams import PREFIX

BASELINE = "self_attention"  # what times and scores are compared with
MEL = "mel"  # the row without an encoder; scores are compared with it where the baseline has none
DATA_PLACES = ("data.root", "data.alignments", "data.split_lists")  # a fingerprint tells what lies there
EXECUTORS = ("local", "slurm", "inline")  # where the cells of a grid are made


def seeds_text(seed: int, probe_seed: int) -> str:
    """``seed 0``, or both where pre-training and probe have different ones."""
    return f"seed {seed}" if seed == probe_seed else f"seed {seed}, probe seed {probe_seed}"


def attention_of(row: str) -> str:
    """The upstream of a row: ``fixed_init[init=raw]`` -> ``fixed_init``; of s3prl's the name as it is."""
    return row if is_foreign(row) else row.partition("[")[0]


def words_of(row: str) -> list[str]:
    """What stands in a row's brackets (``variants.py`` tells what it means); ``ValueError`` when they do not match."""
    if is_foreign(row) or not set(row) & set("[]"):
        return []
    found = re.fullmatch(r"[^\[\]]+\[([^\[\]]*)\]", row)
    if found is None:
        raise ValueError(f"{row!r} is no row: write NAME or 'NAME[option=value,option=value]', quoted in a shell")
    return [word.strip() for word in found[1].split(",") if word.strip()]


def is_foreign(upstream: str) -> bool:
    """Whether a row is one of s3prl's own upstreams, ``s3prl:NAME``."""
    return upstream.startswith(PREFIX)


def is_override(word: str) -> bool:
    """Whether a word of a command line is ``section.option=value``, and no row such as ``fixed_init[init=raw]``, nor a
    path such as ``runs/lr=0.1``."""
    return re.match(r"[\w.]+=", word) is not None


def is_pretrained(upstream: str) -> bool:
    """Whether a row is one of our attentions in the common encoder, which is pre-trained here."""
    return upstream != MEL and not is_foreign(upstream)
