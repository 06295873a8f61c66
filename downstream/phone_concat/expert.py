"""Phone of every 10 ms frame, read by one linear layer from the nine frozen frames around it."""

from functools import partial

from ..frame_classifier import FrameClassifier
from ..heads import Concat
from ..s3prl_protocol import PHONES_CONCAT
from ..splits import phone_folds as folds
from ..targets import phone_frames
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="phone, linear on 9 frames",
    kind="phone",
    metric="accuracy",
    higher_is_better=True,
    unit="frames",
    head="linear on 9 frames",
    reads="frames",
    needs="phone alignments",
    source="s3prl phone_linear_concat",
)

DownstreamExpert = partial(
    TaskExpert, __name__, INFO, folds, phone_frames, partial(FrameClassifier, Concat), s3prl_form=PHONES_CONCAT
)
