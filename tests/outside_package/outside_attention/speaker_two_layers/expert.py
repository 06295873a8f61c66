"""Speaker of an utterance, read through one small hidden layer from the mean of the frozen features over time."""

from functools import partial

from s3prl_attention.downstream.heads import layers
from s3prl_attention.downstream.splits import speaker_folds as folds
from s3prl_attention.downstream.targets import speaker
from s3prl_attention.downstream.task import TaskInfo
from s3prl_attention.downstream.task_expert import TaskExpert
from s3prl_attention.downstream.utterance_classifier import UtteranceClassifier

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="speaker, two layers",
    kind="speaker",
    metric="accuracy",
    higher_is_better=True,
    unit="utterances",
    head="mean over time, 16 hidden, ReLU",
    reads="mean",
    needs="two speakers or more, with three utterances each",
    source="an example",
)

HEAD = partial(UtteranceClassifier, partial(layers, hidden=(16,)))
DownstreamExpert = partial(TaskExpert, __name__, INFO, folds, speaker, HEAD)
