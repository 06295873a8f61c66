"""Random frames where a measurement needs some of the right shape and their values do not matter."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Noise:
    """Reads like a ``FrameStore`` of float16: each utterance is the beginning of the same noise.

    Args:
        num_frames: T_i of each utterance, by id.
        frame_shape: of a frame.
        meta: as in the store.
    """

    def __init__(self, num_frames: Mapping[str, int], frame_shape: tuple[int, ...], meta: Mapping[str, Any]) -> None:
        self.frame_shape = frame_shape
        self.meta = meta
        self._num_frames = num_frames
        shape = (max(num_frames.values()), *frame_shape)
        self._frames = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(np.float16)

    def num_frames(self, id: str) -> int:
        """T_i of one utterance."""
        return self._num_frames[id]

    def __getitem__(self, id: str) -> np.ndarray:
        """(T_i, *frame_shape)."""
        return self._frames[: self._num_frames[id]]

    def __contains__(self, id: object) -> bool:
        return id in self._num_frames
