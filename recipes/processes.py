"""The processes that pre-train together: those that torchrun starts, or this one alone."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(minutes=30)  # for a process that is alive and late; a dead one is noticed at once


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is, and the device that it computes on.

    Args:
        device: of the model; with CUDA one of its own for every process of a machine.
        rank: 0 for the one that writes.
        num: how many there are.
    """

    device: torch.device
    rank: int = 0
    num: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all processes, in float64."""
        if self.num == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum(0.0)

    def agree(self, value: int) -> bool:
        """Whether all processes hold the same value (below 2**62)."""
        if self.num == 1:
            return True
        ends = torch.tensor([value, -value], dtype=torch.int64, device=self.device)
        distributed.all_reduce(ends, distributed.ReduceOp.MAX)
        return int(ends[0]) == -int(ends[1])

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model such that ``backward`` leaves every process with the mean of all gradients. Rank 0's weights go to
        all. Buffers are left to ``average``, because most of them never change and some are large."""
        if self.num == 1:
            return model
        options: dict[str, Any] = {"gradient_as_bucket_view": True}
        known = signature(DistributedDataParallel).parameters
        options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = (
            False  # older PyTorch
        )
        if self.device.type == "cuda":
            options["device_ids"] = [self.device]
        return DistributedDataParallel(model, **options)

    @torch.no_grad()
    def average(self, buffers: Sequence[Tensor]) -> None:
        """Put the mean over all processes into each; those of whole numbers, which have none, stay as they are."""
        if self.num > 1:
            for buffer in filter(torch.is_floating_point, buffers):
                distributed.all_reduce(buffer)
                buffer.div_(self.num)

    def apart(self, model: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Within it ``backward`` keeps its gradients to itself, for all but the last part of a batch."""
        return nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync()


def rank() -> int:
    """Of this process among those of torchrun; 0 when there is but one."""
    return int(os.environ.get("RANK", "0")) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def own_device(device: str) -> str:
    """``cuda`` as the GPU that this process of torchrun has to itself, made the current one, so that none opens a
    context on another's; whatever else as it is.

    Raises:
        ValueError: when the machine has fewer GPUs than processes.
    """
    if not device.startswith("cuda") or "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    place, num_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= num_gpus:
        raise ValueError(
            f"every process needs a GPU of its own, and this machine has {num_gpus}: give a smaller --nproc-per-node, "
            f"or --device cpu"
        )
    torch.cuda.set_device(place)
    return f"cuda:{place}"


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes of torchrun, connected by nccl on CUDA and gloo elsewhere; without torchrun this one alone.

    Raises:
        ValueError: as ``own_device`` does.
    """
    place = torch.device(own_device(device))
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes(place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(place, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
