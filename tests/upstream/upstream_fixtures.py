"""What several tests of attentions share."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestResult(TorchDispatchMode):
    """Sees every operator, forward and backward: ``elements`` is the size of the largest tensor that one returned.

    A broadcast view counts as what it holds, not as what it looks like.
    """

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                held = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.elements = max(self.elements, min(leaf.numel(), held))
        return out


def largest_result(run, x, keep):
    """The largest tensor, in elements, that forward and backward of ``run(x, keep)`` make."""
    x = x.clone().requires_grad_()
    with LargestResult() as watch:
        run(x, keep).square().sum().backward()
    return watch.elements


def mask(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
