"""Pre-train one upstream by masked acoustic modelling.

    python -m s3prl_attention.recipes.pretrain fixed_init --preset demo --out result/my-run pretrain.steps=300

A run killed at any moment continues from its last checkpoint when the same command is given again, with the same
loss at every step as if nothing had happened: order, crops, masks and dropout are functions of (seed, step), and the
rest of the state is in the checkpoint.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from tqdm import tqdm

from ..upstream.allocator import keep_freed_memory
from ..upstream.checkpoint import load_checkpoint, part, restore, save_checkpoint
from ..upstream.contract import entry
from ..upstream.expert import UpstreamExpert
from ..upstream.features import LogMel
from ..upstream.maps_file import how_to_make_maps
from .batches import Batch, Speech, hold_out, log_mel_store, step_seed
from .config import Recipe, as_overrides, load_recipe, presets
from .corpora import Corpus
from .lineage import lineage, named_corpus, pretrain_part
from .objective import ReconstructionHead, masked_l1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A finished pre-training: its checkpoint, the last losses (masked L1) and the seconds its steps took."""

    checkpoint: Path
    steps: int
    train_loss: float
    valid_loss: float
    seconds: float
    log: Path


def pretrain(recipe: Recipe, corpus: Corpus, folder: Path, seed: int = 0, device: str = "cpu") -> Pretrained:
    """Train to ``folder/checkpoint``; a finished run is returned, an interrupted one continued.

    Args:
        recipe: the configuration.
        corpus: what to train on, already narrowed to the pre-training subsets.
        folder: where log and checkpoints go.
        seed: of weights, order, crops, masks and dropout.
        device: of the model.

    Raises:
        ValueError: when the loss is not finite, the data are too few, the folder holds another run, or the upstream
            starts from maps and has no file of them.
    """
    check_maps(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        made_of = lineage(recipe, corpus, seed)
        if (folder / "checkpoint" / "config.yaml").is_file():
            _same_lineage(folder, load_checkpoint(folder / "checkpoint")[0], made_of)
        if (folder / "checkpoint").is_dir():
            return finished(folder)
        return _train(recipe, corpus, folder, seed, torch.device(device), made_of)


def check_maps(recipe: Recipe) -> None:
    """Raises ``ValueError`` with the cure when the upstream starts from maps and has no file of them."""
    source = entry(recipe.upstream).info.needs_maps_of(recipe.attention)
    if source:
        raise ValueError(how_to_make_maps(recipe.upstream, source))


def _same_lineage(folder: Path, config: dict[str, Any], made_of: dict[str, Any]) -> None:
    if config.get("lineage") != json.loads(json.dumps(made_of)):
        raise ValueError(f"{folder} holds a run of another recipe, data or seed: choose another folder")


def _train(
    recipe: Recipe, corpus: Corpus, folder: Path, seed: int, device: torch.device, made_of: dict[str, Any]
) -> Pretrained:
    from tensorboardX import SummaryWriter  # here, because it takes long to import

    for half_written in (*folder.glob(".step-*"), *folder.glob(".checkpoint-*")):  # by a run that was killed
        shutil.rmtree(half_written)
    config = recipe.pretrain
    store = log_mel_store(corpus, recipe.model.num_mels)
    torch.manual_seed(seed)
    expert = UpstreamExpert(recipe.upstream, **asdict(recipe.model), **recipe.attention)
    log_mel = LogMel(num_mels=recipe.model.num_mels)  # stays on the CPU, where batches are made
    log_mel.fit(torch.tensor(store.meta["mean"]), torch.tensor(store.meta["std"]))
    expert.log_mel.load_state_dict(log_mel.state_dict())
    head = ReconstructionHead(hidden_dim=recipe.model.hidden_dim, output_dim=recipe.model.input_dim)
    train_ids, valid_ids = hold_out([u.id for u in corpus.utterances], config.valid_share, config.valid_utterances)
    speech = Speech(store, train_ids, log_mel, recipe.model.stack, recipe.model.max_frames, config, seed)
    valid = list(_validation(replace(speech, ids=valid_ids)))
    model = nn.ModuleDict({"expert": expert, "head": head}).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), fused=True)

    step, elapsed_s, pending = _resume(folder, model, optimizer, made_of)
    log = Log(folder / "log.jsonl", step, pending)
    bar = tqdm(total=config.steps, initial=step, desc=f"pre-train {recipe.upstream}", disable=None)
    with (
        closing(SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)) as board,
        closing(speech.batches(step + 1)) as batches,
    ):
        for batch, waited_s in batches:
            if step == config.steps:
                break
            started = perf_counter()
            step += 1
            torch.manual_seed(step_seed(seed, step))  # dropout
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config.steps, config.warmup_share, config.learning_rate)
            loss = _loss(model, batch.to(device))
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            if not torch.isfinite(loss + norm):
                raise ValueError(
                    f"{recipe.upstream}: loss {loss.item():.4g} with gradient norm {norm.item():.4g} at step {step} "
                    f"cannot be trained on: lower pretrain.learning_rate (now {config.learning_rate:g})"
                )
            optimizer.step()
            step_s = perf_counter() - started
            elapsed_s += step_s + waited_s

            log.add(loss=loss.item(), gradient_norm=norm.item(), step_s=step_s, data_wait_s=waited_s)
            last = step == config.steps
            if step % config.log_every == 0 or last:
                validated = (
                    {"valid_loss": validate(model, valid, device)} if step % config.valid_every == 0 or last else {}
                )
                line = log.write(step, learning_rate=optimizer.param_groups[0]["lr"], elapsed_s=elapsed_s, **validated)
                for name, value in line.items():
                    board.add_scalar(f"pretrain/{name}", value, step)
                bar.set_postfix(loss=f"{line['loss']:.3f}")
            if step % config.save_every == 0 and not last:
                progress = {"step": step, "elapsed_s": elapsed_s, "pending": log.pending, "lineage": made_of}
                _save_state(folder, model, optimizer, progress)
            bar.update()
    bar.close()
    expert.save(folder / "checkpoint", made_of, head)
    for old in _states(folder):
        shutil.rmtree(old)
    return finished(folder)


def _loss(model: nn.ModuleDict, batch: Batch) -> Tensor:
    encoder = model.get_submodule("expert.encoder")
    return masked_l1(encoder, model["head"], batch.corrupted, batch.target, batch.chosen, batch.keep)


def learning_rate(step: int, steps: int, warmup_share: float, peak: float) -> float:
    """The rate of step 1 ... ``steps``: rises linearly to ``peak``, then falls linearly towards zero."""
    warmup = max(1, round(warmup_share * steps))
    return peak * min(step / warmup, (steps - step + 1) / max(1, steps - warmup + 1))


@torch.no_grad()
def validate(model: nn.ModuleDict, batches: Sequence[Batch], device: torch.device) -> float:
    """Masked L1 over all masked frames of the held-out utterances; their masks never change."""
    model.eval()
    total, count = 0.0, 0
    for batch in batches:
        num_chosen = int(batch.chosen.sum())
        total += _loss(model, batch.to(device)).item() * num_chosen
        count += num_chosen
    model.train()
    return total / count


def _validation(speech: Speech) -> list[Batch]:
    """The held-out utterances as batches, in one fixed order with fixed masks, whatever the run's seed."""
    fixed = replace(speech, seed=0)
    seen: set[str] = set()
    batches = []
    for number, ids in enumerate(fixed.plan()):
        if seen.issuperset(ids):
            break
        seen.update(ids)
        batches.append(fixed.batch(ids, step_seed(0, -number - 1)))
    return batches


class Log:
    """Lines of ``log.jsonl``: means since the last line, then what ``write`` is given.

    Lines after ``step`` are of steps that a killed run had taken since its last checkpoint; they are dropped.
    """

    def __init__(self, path: Path, step: int, pending: list[dict[str, float]]) -> None:
        self.path = path
        self.pending = pending
        kept = [line for line in read_log(path) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def add(self, **values: float) -> None:
        """Note one step."""
        self.pending.append(values)

    def write(self, step: int, **values: float) -> dict[str, float]:
        """Append the line of ``step`` and return it."""
        means = {key: sum(line[key] for line in self.pending) / len(self.pending) for key in self.pending[0]}
        line = {"step": step, **means, **values}
        self.pending.clear()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return line


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log; a last line cut short by a kill is left out, a missing file has none."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))


def _save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    older = _states(folder)
    save_checkpoint(folder / f"step-{progress['step']:08d}", tensors, progress)
    for path in older:
        shutil.rmtree(path)


def _resume(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, made_of: dict[str, Any]
) -> tuple[int, float, list[dict[str, float]]]:
    """Fill model and optimiser from the last checkpoint, if any: (steps done, seconds spent, steps not yet logged)."""
    states = _states(folder)
    if not states:
        return 0, 0.0, []
    config, tensors = load_checkpoint(states[-1])
    _same_lineage(folder, config, made_of)
    restore(model, part(tensors, "model."), states[-1])
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    logger.info("resume %s after step %d", folder, config["step"])
    return config["step"], config["elapsed_s"], config["pending"]


def finished(folder: Path) -> Pretrained:
    """The result of a finished run, read from its files."""
    log = read_log(folder / "log.jsonl")
    if not log or "valid_loss" not in log[-1]:
        raise ValueError(f"{folder} has a checkpoint but no log.jsonl: remove the folder and pre-train again")
    last = log[-1]
    return Pretrained(
        folder / "checkpoint",
        int(last["step"]),
        last["loss"],
        last["valid_loss"],
        last["elapsed_s"],
        folder / "log.jsonl",
    )


def check_device(device: str) -> None:
    """Raises ``ValueError`` when PyTorch cannot compute on ``device``."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the device {device!r} cannot be used ({reason}): give --device cpu") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.recipes.pretrain", description=__doc__.split("\n")[0]
    )
    parser.add_argument("upstream", help="a name from: python -m s3prl_attention.upstream list")
    parser.add_argument("overrides", nargs="*", metavar="section.option=value", help="for example pretrain.steps=300")
    parser.add_argument("--preset", default="demo", help=f"one of {', '.join(presets())} (default: %(default)s)")
    parser.add_argument("--corpus", help="synthetic, librispeech or manifest")
    parser.add_argument("--root", help="the folder of the corpus, or the CSV of a manifest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="where log and checkpoints go")
    options = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_freed_memory()
    try:
        check_device(options.device)
        overrides = as_overrides("data", {"corpus": options.corpus, "root": options.root}) + options.overrides
        recipe = load_recipe(options.upstream, options.preset, overrides)
        check_maps(recipe)
        data = recipe.data
        corpus = named_corpus(data)
        done = pretrain(recipe, pretrain_part(corpus, data.pretrain_subsets), options.out, options.seed, options.device)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command continues from the last checkpoint")
    print(f"{done.checkpoint}: valid loss {done.valid_loss:.4f} after {done.steps} steps in {done.seconds:.0f} s")


if __name__ == "__main__":
    main()
