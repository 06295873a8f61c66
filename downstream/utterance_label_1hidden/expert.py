"""Any label of an utterance, read through one hidden layer from the mean of the frozen features over time."""

from functools import partial

from ..heads import HIDDEN, layers
from ..splits import label_folds as folds
from ..targets import utterance_label
from ..task import TaskInfo
from ..task_expert import TaskExpert
from ..utterance_classifier import UtteranceClassifier

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="label, one hidden layer",
    kind="label",
    metric="accuracy",
    higher_is_better=True,
    unit="utterances",
    head="mean over time, 768 hidden, ReLU",
    reads="mean",
    needs="labels of two classes or more",
    source="s3prl, utterance-level tasks; SUPERB, Yang et al. 2021",
)

HEAD = partial(UtteranceClassifier, partial(layers, hidden=(HIDDEN,)))
DownstreamExpert = partial(TaskExpert, __name__, INFO, folds, utterance_label, HEAD)
