"""Pre-train one upstream by masked acoustic modelling.

    python -m s3prl_attention.recipes.pretrain fixed_init --preset demo --out result/my-run pretrain.steps=300
    torchrun --standalone --nproc-per-node 2 -m s3prl_attention.recipes.pretrain fixed_init --out result/my-run

A run killed at any moment continues from its last checkpoint when the same command is given again, with the same
loss at every step as if nothing had happened: order, crops, masks and dropout are functions of (seed, step), and the
rest of the state is in the checkpoint. Several processes share every batch of the recipe, and the loss is that of one,
but for rounding and dropout; a run may go on with another number of them. ``routing`` is the exception: every share of
a batch moves its centroids, of which the processes then take the mean, so that their number decides a little.
"""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from tqdm import tqdm

from ..upstream.allocator import keep_freed_memory
from ..upstream.checkpoint import load_checkpoint
from ..upstream.contract import entry
from ..upstream.expert import UpstreamExpert
from ..upstream.features import LogMel
from ..upstream.maps_file import how_to_make_maps
from ..upstream.printable import printable
from .batches import Batch, Speech, hold_out, log_mel_store, step_seed
from .config import OWN_SECTIONS, Recipe, as_overrides, load_recipe, parse_overrides, presets
from .corpora import Corpus
from .corpora.cache import folder_lock
from .lineage import lineage, named_corpus, pretrain_part
from .objective import MaskedAcousticModel, ReconstructionHead
from .processes import Processes, joined, own_device, rank
from .run_files import Board, Log, read_log, remove_half_written, remove_states, resume, same_lineage, save_state

logger = logging.getLogger(__name__)

DEVICES = ("cpu", "cuda")
SMALLEST_SCALE = 1e-4  # of fp16: gradients that overflow even so are not finite for another reason


@dataclass(frozen=True)
class Pretrained:
    """A finished pre-training: its checkpoint, the last losses (masked L1) and the seconds its steps took."""

    checkpoint: Path
    steps: int
    train_loss: float
    valid_loss: float
    seconds: float
    log: Path


def pretrain(
    recipe: Recipe, corpus: Corpus, folder: Path, seed: int = 0, device: str = "cpu", processes: Processes | None = None
) -> Pretrained:
    """Train to ``folder/checkpoint``; a finished run is returned, an interrupted one continued.

    Args:
        recipe: the configuration.
        corpus: what to train on, already narrowed to the pre-training subsets.
        folder: where log and checkpoints go.
        seed: of weights, order, crops, masks and dropout; from 0 and below 2**63.
        device: of the model.
        processes: those that share the work, each of which calls this with the same arguments and a folder that all of
            them see; None for this one alone on ``device``.

    Raises:
        ValueError: when the seed is none, the loss is not finite, the data are too few, the folder holds another run or
            cannot be written, the batch cannot be shared, or the upstream starts from maps and has no file of them.
    """
    processes = processes or Processes(torch.device(device))
    check_seed(seed)
    check_maps(recipe)
    num_shares(recipe, processes.num)
    with folder_lock(folder / "checkpoint") if processes.writes else nullcontext():
        made_of = lineage(recipe, corpus, seed)
        there = (folder / "checkpoint").is_dir()
        if processes.writes:
            remove_half_written(folder)
        if processes.writes and (folder / "checkpoint" / "config.yaml").is_file():
            same_lineage(folder, load_checkpoint(folder / "checkpoint")[0], made_of)
        if not processes.sum(there and processes.writes)[0]:  # as the one that writes sees it
            _train(recipe, corpus, folder, seed, made_of, processes)
        return finished(folder)


def num_shares(recipe: Recipe, num_processes: int) -> int:
    """Into how many parts a batch is dealt out; raises ``ValueError`` when its frames cannot be shared evenly, or a
    share would not hold a crop."""
    config, shares = recipe.pretrain, num_processes * recipe.pretrain.accumulate
    told = f"pretrain.batch_frames={config.batch_frames} shared by {num_processes} process(es)"
    told += f" x pretrain.accumulate={config.accumulate}"
    if config.batch_frames % shares:
        nearest_frames = round(config.batch_frames / shares) * shares
        raise ValueError(f"{told} leaves a remainder: take a number that divides it, or {nearest_frames} frames")
    if config.batch_frames // shares < recipe.model.max_frames:
        raise ValueError(
            f"{told} leaves {config.batch_frames // shares} frames for each, less than one crop of "
            f"model.max_frames={recipe.model.max_frames}: take fewer or smaller parts, or a larger batch"
        )
    return shares


def check_maps(recipe: Recipe) -> None:
    """Raises ``ValueError`` with the cure when the upstream starts from maps and has no file of them."""
    source = entry(recipe.upstream).info.needs_maps_of(recipe.attention)
    if source:
        raise ValueError(how_to_make_maps(recipe.upstream, source))


def _train(
    recipe: Recipe, corpus: Corpus, folder: Path, seed: int, made_of: dict[str, Any], processes: Processes
) -> None:
    config, device, shares = recipe.pretrain, processes.device, num_shares(recipe, processes.num)
    store = log_mel_store(corpus, recipe.model.num_mels)
    torch.manual_seed(seed)
    expert = UpstreamExpert(recipe.upstream, **asdict(recipe.model), **recipe.attention)
    log_mel = LogMel(num_mels=recipe.model.num_mels)  # stays on the CPU, where batches are made
    log_mel.fit(torch.tensor(store.meta["mean"]), torch.tensor(store.meta["std"]))
    expert.log_mel.load_state_dict(log_mel.state_dict())
    head = ReconstructionHead(hidden_dim=recipe.model.hidden_dim, output_dim=recipe.model.input_dim)
    train_ids, valid_ids = hold_out([u.id for u in corpus.utterances], config.valid_share, config.valid_utterances)
    mine = range(processes.rank, shares, processes.num)
    all_speech = Speech(store, train_ids, log_mel, recipe.model.stack, recipe.model.max_frames, config, seed)
    speech = replace(all_speech, shares=mine, num_shares=shares)
    valid = validation(replace(all_speech, ids=valid_ids))[processes.rank :: processes.num]
    model = MaskedAcousticModel(expert, head, config.precision).to(device).train()
    if config.precision == "float64":
        model.double()
    if config.compile:
        model.compile(dynamic=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    scaler = GradScaler(device.type, enabled=config.precision == "fp16")

    step, elapsed_s, pending = resume(folder, model, optimizer, scaler, made_of)
    if not processes.agree(step):
        raise ValueError(f"{folder} is not the same for all processes: name one on a file system that they share")
    parallel = processes.parallel(model)
    log = Log(folder / "log.jsonl", step, pending, processes.writes)
    silent = None if processes.writes else True  # None: unless it is no terminal
    bar = tqdm(total=config.steps, initial=step, desc=f"pre-train {recipe.upstream}", disable=silent)
    with Board(folder / "tensorboard", step, processes.writes) as board, closing(speech.batches(step + 1)) as batches:
        for parts, waited_s in batches:
            if step == config.steps:
                break
            started = perf_counter()
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config.steps, config.warmup_share, config.learning_rate)
            optimizer.zero_grad()
            seeds = [step_seed(seed, step, share) for share in mine]  # of dropout
            loss = _backward(model, parallel, parts, seeds, scaler, processes)
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip).item()
            overflowed = scaler.is_enabled() and not math.isfinite(norm) and scaler.get_scale() > SMALLEST_SCALE
            if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
                raise ValueError(
                    f"{recipe.upstream}: loss {loss:.4g} with gradient norm {norm:.4g} at step {step} "
                    f"cannot be trained on: lower pretrain.learning_rate (now {config.learning_rate:g})"
                )
            scaler.step(optimizer)  # leaves the weights alone where fp16 overflowed
            scaler.update()
            step_s = perf_counter() - started
            elapsed_s += step_s + waited_s

            log.add(loss=loss, step_s=step_s, data_wait_s=waited_s, **({} if overflowed else {"gradient_norm": norm}))
            last = step == config.steps
            validates = step % config.valid_every == 0 or last
            if validates or step % config.log_every == 0:
                validated = {"valid_loss": validate(model, valid, device, processes)} if validates else {}
                line = log.write(step, learning_rate=optimizer.param_groups[0]["lr"], elapsed_s=elapsed_s, **validated)
                board.add(step, line)
                bar.set_postfix(loss=f"{line['loss']:.3f}")
            if step % config.save_every == 0 and not last and processes.writes:
                progress = {"step": step, "elapsed_s": elapsed_s, "pending": log.pending, "lineage": made_of}
                save_state(folder, model, optimizer, scaler, progress)
            bar.update()
    bar.close()
    if processes.writes:
        expert.float().save(folder / "checkpoint", made_of, head.float())
        remove_states(folder)
    processes.wait()


def _backward(
    model: nn.Module,
    parallel: nn.Module,
    parts: Sequence[Batch],
    seeds: Sequence[int],
    scaler: GradScaler,
    processes: Processes,
) -> float:
    """Leave the gradients of the whole batch in ``model``; returns its loss. ``parts`` is this process's share."""
    versions = [buffer._version for buffer in model.buffers()]
    loss = 0.0
    for number, (part, seed) in enumerate(zip(parts, seeds, strict=True), start=1):
        torch.manual_seed(seed)
        with processes.apart(parallel, last=number == len(parts)):
            part_loss = _loss(parallel, part.to(processes.device)) * part.weight
            scaler.scale(part_loss * processes.num).backward()  # times num, since the mean over processes is taken
        loss += part_loss.item()
    moved = zip(model.buffers(), versions, strict=True)  # such as the centroids of routing
    processes.average([buffer for buffer, version in moved if buffer._version != version])
    return processes.sum(loss)[0]


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch.corrupted, batch.target, batch.chosen, batch.keep)


def learning_rate(step: int, steps: int, warmup_share: float, peak: float) -> float:
    """The rate of step 1 ... ``steps``: rises linearly to ``peak``, then falls linearly towards zero."""
    warmup = max(1, round(warmup_share * steps))
    return peak * min(step / warmup, (steps - step + 1) / max(1, steps - warmup + 1))


@torch.no_grad()
def validate(
    model: nn.Module, batches: Sequence[Batch], device: torch.device, processes: Processes | None = None
) -> float:
    """Masked L1 over all masked frames of the held-out utterances, of which each process has some; their masks never
    change."""
    model.eval()
    total, count = 0.0, 0.0
    for batch in batches:
        num_chosen = int(batch.chosen.sum())
        total += _loss(model, batch.to(device)).item() * num_chosen
        count += num_chosen
    model.train()
    if processes is not None:
        total, count = processes.sum(total, count)
    return total / count


def validation(speech: Speech) -> list[Batch]:
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


def check_seed(seed: int) -> None:
    """Raises ``ValueError`` for what PyTorch and NumPy do not both take as a seed."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"a seed must be a whole number from 0 and below 2**63, got {seed!r}: choose another")


def check_device(device: str) -> None:
    """Raises ``ValueError`` when PyTorch cannot compute on ``device``, or it is of another kind than cpu and cuda:
    others lack float64, and their times are not those of what was computed."""
    try:
        kind = torch.device(device).type
        if kind not in DEVICES:
            raise ValueError(f"the device {device!r} cannot be used (it is of kind {kind}): give --device cpu or cuda")
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
    first = rank() == 0
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, format="%(message)s")
    keep_freed_memory()
    try:
        check_seed(options.seed)
        check_device(own_device(options.device))
        parse_overrides(options.overrides, OWN_SECTIONS)  # refuses those of the benchmark, which nobody reads here
        overrides = as_overrides("data", {"corpus": options.corpus, "root": options.root}) + options.overrides
        recipe = load_recipe(options.upstream, options.preset, overrides)
        check_maps(recipe)
        data = recipe.data
        corpus = pretrain_part(named_corpus(data), data.pretrain_subsets)
        with joined(options.device) as processes:
            done = pretrain(recipe, corpus, options.out, options.seed, processes=processes)
    except (ValueError, RuntimeError, OSError) as error:  # wrong request, worker or process that died, disk
        sys.exit(f"error: {printable(error)}" if first else f"process {rank()}: error: {printable(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command continues from the last checkpoint" if first else 1)
    if first:
        print(f"{done.checkpoint}: valid loss {done.valid_loss:.4f} after {done.steps} steps in {done.seconds:.0f} s")


if __name__ == "__main__":
    main()
