"""TensorBoard: event files in ``DIR/tensorboard``, to which a resumed run adds its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .tracker import Ending, Picture, TrackedRun


class TensorBoard:
    """A `Tracker` that writes scalars, pictures and the config for TensorBoard. It keeps no other files.

    Points of earlier files from ``run.next_step`` on are discarded, because they are written again.
    """

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes half a second to import

        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.next_step or None)
        if not run.next_step:
            self._writer.add_text("config", f"```yaml\n{run.config}\n```")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def files(self, name: str, files: Sequence[Path]) -> None:
        """Nothing: its files are in the run's folder already."""

    def flush(self) -> None:
        self._writer.flush()

    def close(self, ending: Ending) -> None:
        self._writer.close()
