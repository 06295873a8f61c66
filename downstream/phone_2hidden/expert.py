"""Phone of every 10 ms frame, read through two hidden layers from the frozen feature frame under it."""

from functools import partial

from ..frame_classifier import FrameClassifier
from ..heads import HIDDEN, Pointwise
from ..splits import phone_folds as folds
from ..targets import phone_frames
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="phone, two hidden layers",
    kind="phone",
    metric="accuracy",
    higher_is_better=True,
    unit="frames",
    head="2 x 768 hidden, ReLU",
    reads="frames",
    needs="phone alignments",
    source="as s3prl phone_1hidden, one layer deeper",
)

HEAD = partial(FrameClassifier, partial(Pointwise, hidden=(HIDDEN, HIDDEN)))
DownstreamExpert = partial(TaskExpert, __name__, INFO, folds, phone_frames, HEAD)
