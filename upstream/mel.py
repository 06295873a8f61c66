"""The log-Mel row: the features that every encoder starts from, offered as an upstream without an encoder."""

from pathlib import Path
from typing import Any

from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor

from .checkpoint import check_shape, load_checkpoint, restore, save_checkpoint
from .features import HOP_SAMPLES, LogMel, check_batch, pad_frames


class MelExpert(UpstreamBase):
    """Normalised log-Mel frames as the only hidden state.

    Args:
        ckpt: a folder written by ``save``; without one the corpus statistics are zeros and ones.
        num_mels: Mel bands; the checkpoint's, or 80.
    """

    frame_repeat = 1
    name = "mel"

    def __init__(
        self,
        ckpt: str | Path | None = None,
        model_config: str | Path | None = None,
        refresh: bool = False,
        num_mels: int | None = None,
    ) -> None:
        super().__init__()
        del model_config, refresh  # what s3prl passes to every upstream
        if ckpt is None:
            self.log_mel = LogMel(num_mels=80 if num_mels is None else num_mels)
            return
        config, tensors = load_checkpoint(ckpt)
        saved = config.get("num_mels", 80)
        if num_mels not in (None, saved):
            raise ValueError(f"{ckpt} was made with num_mels={saved}, not {num_mels}; leave the option out")
        check_shape(tensors, "log_mel.mean", (saved,), ckpt)
        self.log_mel = LogMel(num_mels=saved)
        restore(self, tensors, ckpt)

    def get_downsample_rates(self, key: str) -> int:
        """Samples a frame: 160 (10 ms)."""
        del key
        return HOP_SAMPLES

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """B waveforms (S_i,) -> ``hidden_states``: one tensor (B, T, num_mels), zero beyond an utterance's end."""
        check_batch(self.name, wavs)
        batch, _ = pad_frames([self.log_mel(wav) for wav in wavs])
        return {"hidden_states": [batch], "last_hidden_state": batch}

    def save(self, folder: Path) -> None:
        """Write the corpus statistics as a checkpoint, in float32."""
        tensors = {key: value.float() for key, value in self.state_dict().items()}
        save_checkpoint(folder, tensors, {"upstream": self.name, "num_mels": self.log_mel.num_mels})
