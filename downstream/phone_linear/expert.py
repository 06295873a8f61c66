"""Phone of every 10 ms frame, read by one linear layer from the frozen feature frame under it."""

from functools import partial

from ..frame_classifier import FrameClassifier
from ..heads import Pointwise
from ..s3prl_protocol import PHONES
from ..splits import phone_folds as folds
from ..targets import phone_frames
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="phone, linear",
    kind="phone",
    metric="accuracy",
    higher_is_better=True,
    unit="frames",
    head="linear",
    reads="frames",
    needs="phone alignments",
    source="s3prl phone_linear; Liu et al. 2020 (Mockingjay)",
)

DownstreamExpert = partial(
    TaskExpert, __name__, INFO, folds, phone_frames, partial(FrameClassifier, Pointwise), s3prl_form=PHONES
)
