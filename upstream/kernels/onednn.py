"""Float32 linear layers through oneDNN where PyTorch would take a slower library.

PyTorch hands float32 products on CPUs to MKL, which leaves half of an AMD processor's vector units idle: oneDNN,
which PyTorch ships too, computed the products of a D 768 layer 1.4 to 2.3 times as fast on the AMD EPYC at hand, to
the same float32 precision. ``fast_linear()`` reroutes ``torch.nn.functional.linear`` for every module called within
it, so that no upstream gains over another. Elsewhere (Intel, GPU, autocast, other types) it changes nothing.
"""

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SWITCH = "S3PRL_ATTENTION_ONEDNN"  # 0 turns the detour off, 1 takes it on any CPU where it works
FEWEST_PRODUCTS = 1 << 20  # multiply-accumulates below which the detour is not worth its overhead


def fast_linear() -> AbstractContextManager[Any]:
    """A context in which float32 CPU ``linear`` goes through oneDNN, if that is worth it on this machine."""
    return _Detour() if worthwhile() else nullcontext()


@cache
def worthwhile() -> bool:
    """Whether this machine gains: an x86 CPU that is not Intel's, and a PyTorch whose oneDNN operator works."""
    switch = os.environ.get(SWITCH, "")
    if switch == "0" or not _operator_works():
        return False
    return switch == "1" or (platform.machine() in ("x86_64", "AMD64") and "GenuineIntel" not in _vendor())


def _vendor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:400]
    except OSError:
        return "GenuineIntel"  # unknown: leave PyTorch's choice


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    operator: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return operator(x, weight, bias, "none", [], "")


def _dense(x: Tensor) -> Tensor:
    """x without gaps between its rows or columns: over gaps oneDNN takes a loop that is a thousand times slower."""
    return x if x.is_contiguous() or (x.dim() == 2 and x.T.is_contiguous()) else x.contiguous()


def _operator_works() -> bool:
    """Try it: the operator is not part of PyTorch's public face, so a later release may change it."""
    x, weight, bias = torch.linspace(-1, 1, 6).view(2, 3), torch.linspace(-1, 1, 12).view(4, 3), torch.ones(4)
    try:
        return torch.allclose(_product(x, weight, bias), x @ weight.T + bias, atol=1e-5)
    except Exception:  # whatever it raises, PyTorch's own path is there
        return False


class _Linear(torch.autograd.Function):
    """x W^T + b with its gradients, each one product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = _dense(x), _dense(weight)
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = _dense(grad.reshape(-1, grad.shape[-1]))
        grad_x = _product(rows, weight.T, None).view_as(x) if ctx.needs_input_grad[0] else None
        grad_weight = _product(rows.T, x.reshape(-1, x.shape[-1]).T, None) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


class _Detour(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and not kwargs and _suits(*args):
            x, weight, bias = (*args, None)[:3]
            return _Linear.apply(x, weight, bias)
        return func(*args, **(kwargs or {}))


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" and t.layout == torch.strided for t in tensors)
        and weight.dim() == 2
        and x.numel() * weight.shape[0] >= FEWEST_PRODUCTS
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
