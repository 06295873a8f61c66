"""How many of the keys that matter does a hash find? Recall of the LSH family on the states of a trained encoder.

    python -m s3prl_attention.benchmark.recall result/shared_qk/checkpoint --corpus librispeech --root LibriSpeech

The checkpoint is one of `shared_qk`, whose queries are its keys, as in the LSH family. Each member picks keys for the
queries of every layer and head of that encoder; what it picks is compared with the keys of the largest true inner
products, and the weight that softmax gives to what it picks is summed.

Legend: H heads, n frames, K head dim.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..recipes.config import DataConfig
from ..recipes.corpora import Corpus, Utterance, read_utterance
from ..recipes.lineage import named_corpus, pretrain_part
from ..upstream import load, names
from ..upstream.contract import entry
from ..upstream.features import stack_frames
from .command_line import mistakes_told
from .statistics import clustered_interval

TRAINED, RANDOM = "shared_qk", "random_keys"
BITS = (64, 256)


@dataclass
class Tally:
    """Of one way to pick keys: for each utterance its speaker, true keys found, true keys, weight kept, queries."""

    speakers: list[str] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    mass: list[float] = field(default_factory=list)
    queries: list[float] = field(default_factory=list)

    def add(self, speaker: str, picked: Tensor, true: Tensor, maps: Tensor) -> None:
        """Note what one utterance's queries of one layer picked, all (H, n, n)."""
        self.speakers.append(speaker)
        self.found.append(float((picked & true).sum()))
        self.true.append(float(true.sum()))
        self.mass.append(float(maps[picked].sum()))
        self.queries.append(float(picked.shape[0] * picked.shape[1]))

    @property
    def recall(self) -> float:
        """Share of the true keys that were picked."""
        return sum(self.found) / sum(self.true)

    @property
    def kept(self) -> float:
        """Share of the attention weight that lies on what was picked."""
        return sum(self.mass) / sum(self.queries)

    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the recall, by speakers."""
        return clustered_interval(self.found, self.true, self.speakers)


def recall(checkpoint: Path, corpus: Corpus, num_utterances: int, num_keys: int = 32) -> dict[str, Tally]:
    """How well every member of the family picks keys, at most ``num_utterances`` utterances, spread over the corpus.

    Raises:
        ValueError: when the checkpoint is not one of ``shared_qk``.
    """
    expert: Any = load(TRAINED, ckpt=checkpoint).eval()
    attentions = [layer.attention for layer in expert.encoder.layers]
    pickers = _pickers(expert, num_keys)
    tallies = {label: Tally() for label in ["exact top keys", *pickers]}
    step = max(1, len(corpus.utterances) // num_utterances)
    chosen = corpus.utterances[::step][:num_utterances]
    with torch.inference_mode():
        for utterance in tqdm(chosen, desc="recall", unit="utt", disable=None, leave=False):
            for layer, state in enumerate(_states(expert, utterance)):
                query = attentions[layer % len(attentions)].shared(state)[0][0]  # (H, n, K)
                _compare(query, utterance.speaker, pickers, tallies, num_keys)
    return tallies


def _pickers(expert: Any, num_keys: int) -> dict[str, Any]:
    """Label -> an attention whose rule picks keys: the random control, then each member, mode and number of bits."""
    sizes = {key: getattr(expert.options, key) for key in ("hidden_dim", "num_heads", "max_frames")}
    family = [name for name in names() if entry(name).info.family == "lsh"]
    pickers = {f"random ({RANDOM})": entry(RANDOM).attention(**sizes, **{**entry(RANDOM).own, "num_keys": num_keys})}
    for found in (variant for name in family for variant in entry(name).variants()):
        for num_bits in BITS:
            own = {**found.own, "num_bits": num_bits, "num_keys": num_keys}
            pickers[f"{found.name}, {own['mode']}, {num_bits} bits"] = found.attention(**sizes, **own)
    return pickers


def _states(expert: Any, utterance: Utterance) -> Iterator[Tensor]:
    """The inputs (1, n, D) of every layer, for the utterance's first max_frames stacked frames."""
    frames = stack_frames(expert.log_mel(read_utterance(utterance)), expert.options.stack)
    yield from expert.encoder(frames[None, : expert.options.max_frames], None)[:-1]


def _compare(query: Tensor, speaker: str, pickers: dict[str, Any], tallies: dict[str, Tally], num_keys: int) -> None:
    num_frames, head_dim = query.shape[1:]
    products = query @ query.transpose(-1, -2)  # (H, n, n)
    maps = (products / head_dim**0.5).softmax(-1)
    best = products.topk(min(num_keys, num_frames), dim=-1).indices
    true = torch.zeros_like(products, dtype=torch.bool).scatter_(-1, best, True)
    at = torch.arange(num_frames)
    tallies["exact top keys"].add(speaker, true, true, maps)
    for label, picker in pickers.items():
        tallies[label].add(speaker, picker.rule(query, at, num_frames), true, maps)


def table(tallies: dict[str, Tally]) -> str:
    """The tallies as a Markdown table."""
    lines = ["| keys picked by | recall % (95 %) | weight kept % |", "| --- | ---: | ---: |"]
    for label, tally in tallies.items():
        interval = tally.interval()
        spread = f" ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})" if interval else ""
        lines.append(f"| {label} | {100 * tally.recall:.1f}{spread} | {100 * tally.kept:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.recall", description=__doc__.split("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help=f"a checkpoint folder of {TRAINED}")
    parser.add_argument(
        "--corpus", default=DataConfig.corpus, help="synthetic, librispeech or manifest (default: %(default)s)"
    )
    parser.add_argument("--root", help="the folder of the corpus, or the CSV of a manifest")
    parser.add_argument("--utterances", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--num-keys", type=int, default=32, help="keys of a query (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if min(options.utterances, options.num_keys - 1) < 1:
        parser.error("--utterances must be at least 1 and --num-keys at least 2")
    with mistakes_told():
        data = replace(DataConfig(), corpus=options.corpus, root=options.root)
        corpus = pretrain_part(named_corpus(data), [])
        print(table(recall(options.checkpoint, corpus, options.utterances, options.num_keys)))


if __name__ == "__main__":
    main()
