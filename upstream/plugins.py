"""The registries of upstreams and tasks, apart from all that needs PyTorch: listing names must be quick."""

from .registry import Registry

HOME = __package__.rpartition(".")[0]
UPSTREAMS = Registry(kind="upstream", package=f"{HOME}.upstream", marker="attention", group=f"{HOME}.upstreams")
TASKS = Registry(kind="downstream", package=f"{HOME}.downstream", marker="expert", group=f"{HOME}.downstreams")
