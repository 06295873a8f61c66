"""Phones of an utterance by CTC, read from the frozen features through one hidden layer."""

from functools import partial

from torch import nn

from ..heads import HIDDEN, layers
from ..recognizer import SETTLING, Recognizer
from ..splits import phone_folds
from ..targets import transcript
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

folds = partial(phone_folds, times=False)
INFO = TaskInfo(
    title="phone recognition, one hidden layer",
    kind="phone",
    metric="phone error rate",
    higher_is_better=False,
    unit="phones",
    head="768 hidden, ELU, CTC",
    reads="frames",
    needs="phones, with or without times",
    source="Graves et al. 2006 (CTC); SUPERB PR, Yang et al. 2021",
    chance="empty",
    settling=SETTLING,
)

HEAD = partial(Recognizer, partial(layers, hidden=(HIDDEN,), activation=nn.ELU))
DownstreamExpert = partial(TaskExpert, __name__, INFO, folds, transcript, HEAD)
