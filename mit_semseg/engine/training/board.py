"""A run in TensorBoard: scalars, sample predictions and the config, in ``DIR/tensorboard``."""

from pathlib import Path

from ...visualize import Image
from .progress import Line


class Board:
    """Writes what TensorBoard shows.

    Args:
        folder: of its files; runs that go on add theirs.
        first_step: points of earlier files from this iteration on are withdrawn, because they come again.
    """

    def __init__(self, folder: Path, first_step: int, config: str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes half a second to import

        self._writer = SummaryWriter(str(folder), purge_step=first_step or None)
        if not first_step:
            self._writer.add_text("config", f"```yaml\n{config}\n```")

    def line(self, step: int, line: Line, rates: tuple[float, float]) -> None:
        """The values of a line of the log; ``step`` in iterations, here and below."""
        for tag, value in (
            ("train/loss", line.loss),
            ("train/accuracy", 100 * line.accuracy),
            ("rate/encoder", rates[0]),
            ("rate/decoder", rates[1]),
            ("speed/images_per_second", line.images_per_s),
            ("speed/data_wait_percent", 100 * line.data_wait),
            ("speed/memory_gb", line.memory_gb),
        ):
            self._writer.add_scalar(tag, value, step)

    def point(self, step: int, loss: float, accuracy: float) -> None:
        """A point that was withdrawn but does not come again; accuracy in percent."""
        self._writer.add_scalar("train/loss", loss, step)
        self._writer.add_scalar("train/accuracy", accuracy, step)

    def validation(self, step: int, mean_iou: float, accuracy: float, samples: dict[str, Image]) -> None:
        """Scores as shares, and pictures of image | truth | prediction by name."""
        self._writer.add_scalar("val/mean_iou", mean_iou, step)
        self._writer.add_scalar("val/accuracy", 100 * accuracy, step)
        for name, picture in samples.items():
            self._writer.add_image(f"val/{name}", picture, step, dataformats="HWC")

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
