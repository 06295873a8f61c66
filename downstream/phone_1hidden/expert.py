"""Phone of every 10 ms frame, read through one hidden layer from the frozen feature frame under it."""

from functools import partial

from ..frame_classifier import FrameClassifier
from ..heads import HIDDEN, Pointwise
from ..s3prl_protocol import PHONES_1HIDDEN
from ..splits import phone_folds as folds
from ..targets import phone_frames
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="phone, one hidden layer",
    kind="phone",
    metric="accuracy",
    higher_is_better=True,
    unit="frames",
    head="768 hidden, ReLU",
    reads="frames",
    needs="phone alignments",
    source="s3prl phone_1hidden; Liu et al. 2020 (Mockingjay)",
)

HEAD = partial(FrameClassifier, partial(Pointwise, hidden=(HIDDEN,)))
DownstreamExpert = partial(TaskExpert, __name__, INFO, folds, phone_frames, HEAD, s3prl_form=PHONES_1HIDDEN)
