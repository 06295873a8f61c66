"""Phones of an utterance by CTC, read from the frozen features by one linear layer."""

from functools import partial

from ..heads import layers
from ..recognizer import SETTLING, Recognizer
from ..splits import phone_folds
from ..targets import transcript
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

folds = partial(phone_folds, times=False)
INFO = TaskInfo(
    title="phone recognition",
    kind="phone",
    metric="phone error rate",
    higher_is_better=False,
    unit="phones",
    head="linear, CTC",
    reads="frames",
    needs="phones, with or without times",
    source="Graves et al. 2006 (CTC); SUPERB PR, Yang et al. 2021",
    chance="empty",
    settling=SETTLING,
)

DownstreamExpert = partial(TaskExpert, __name__, INFO, folds, transcript, partial(Recognizer, layers))
