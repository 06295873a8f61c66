"""Speaker at every 10 ms frame, read by one linear layer from the frozen feature frame under it."""

from functools import partial

from ..frame_classifier import FrameClassifier
from ..heads import Pointwise
from ..s3prl_protocol import SPEAKER_FRAMES
from ..splits import speaker_folds as folds
from ..targets import speaker_frames
from ..task import TaskInfo
from ..task_expert import TaskExpert

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="speaker, frame by frame",
    kind="speaker",
    metric="accuracy",
    higher_is_better=True,
    unit="frames",
    head="linear",
    reads="frames",
    needs="two speakers or more, with three utterances each",
    source="s3prl speaker_linear_frame_libri; Liu et al. 2020 (Mockingjay)",
)

DownstreamExpert = partial(
    TaskExpert, __name__, INFO, folds, speaker_frames, partial(FrameClassifier, Pointwise), s3prl_form=SPEAKER_FRAMES
)
