"""An exported file in place of a network: the same scores from onnxruntime or OpenVINO."""

import os
import threading
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..data.images import scale_and_shift
from ..export import OpenedModel, open_exported
from ..export.graph import LOGITS
from ..export.opened import has_bf16, read_metadata
from ..runtime.log import get_logger
from .network import AMP, ScoringNetwork


class ExportedNetwork:
    """A file of `mit-semseg export`, called like a `ScoringNetwork`.

    The runtime gets as many threads as torch has in the calling thread, so that the rules for processes and
    loaders apply to it, too. Several threads may call at the same time. It can be pickled; the file is then
    opened again.

    Attributes:
        device, stride, grid, softmax, align_corners: see `ScoringNetwork`; it computes on the CPU.
        amp: ``bf16`` if it was asked for and the runtime supports it, else ``none``.
        path: of the file.
        bands: of the images; None for 8-bit RGB.
    """

    def __init__(self, path: str | Path, *, amp: str = "none") -> None:
        """Read the metadata of a file; it is opened at the first call.

        Raises: UserError if the file cannot be opened, or this project did not make it.
        """
        if amp not in AMP:
            raise ValueError(f"amp is {amp!r}, but takes one of {', '.join(AMP)}")
        metadata = read_metadata(path)
        self.path = str(path)
        self.device = torch.device("cpu")
        self.stride, self.grid = metadata.stride, metadata.grid
        self.align_corners, self.softmax = metadata.align_corners, metadata.softmax
        self.bands = metadata.bands
        self.amp = amp if has_bf16(path) else "none"
        if self.amp != amp:
            get_logger().info("%s computes in float32: INFERENCE.amp %s has no effect on it", path, amp)
        self._threads = torch.get_num_threads()
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        # By process, because threads of a runtime do not survive a fork, and by the number of threads.
        self._opened: dict[tuple[int, int], OpenedModel] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __call__(self, image: Tensor) -> Tensor:
        """Unnormalized scores, (B, h / stride, w / stride, num_class) float32, contiguous.

        Args:
            image: (B, 3, h, w), uint8 RGB; or (B, C, h, w), float32 and normalized.
        """
        if self.bands is not None:
            scale, shift = self.bands.scale_and_shift()
            image = (image.cpu() + shift) / scale  # values as in the files
        elif image.dtype != torch.uint8:
            scale, shift = scale_and_shift(image.device)
            image = ((image + shift) / scale).round().clamp(0, 255).to(torch.uint8)
        pixels = image.cpu().contiguous().numpy()
        (scores,) = self._model().run([LOGITS], pixels)
        return torch.from_numpy(scores).permute(0, 2, 3, 1).contiguous()

    def _model(self) -> OpenedModel:
        """The file, opened for the number of threads that torch has in the calling thread."""
        threads = torch.get_num_threads()
        key = os.getpid(), threads
        with self._lock:
            if key not in self._opened:
                # One thread each: the caller is one of those that share the cores.
                callers = self._threads if threads == 1 else 1
                self._opened[key] = open_exported(self.path, threads=threads, callers=callers, amp=self.amp)
            return self._opened[key]


AnyNetwork: TypeAlias = ScoringNetwork | ExportedNetwork
