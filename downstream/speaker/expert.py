"""Speaker of an utterance, read by one linear layer from the mean of the frozen features over time."""

from functools import partial

from ..heads import layers
from ..s3prl_protocol import SPEAKERS
from ..splits import speaker_folds as folds
from ..targets import speaker
from ..task import TaskInfo
from ..task_expert import TaskExpert
from ..utterance_classifier import UtteranceClassifier

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="speaker",
    kind="speaker",
    metric="accuracy",
    higher_is_better=True,
    unit="utterances",
    head="mean over time, linear",
    reads="mean",
    needs="two speakers or more, with three utterances each",
    source="s3prl speaker_linear_utter_libri; Liu et al. 2020 (Mockingjay)",
)

DownstreamExpert = partial(
    TaskExpert, __name__, INFO, folds, speaker, partial(UtteranceClassifier, layers), s3prl_form=SPEAKERS
)
