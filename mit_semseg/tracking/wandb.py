"""Weights & Biases: online with a key, otherwise in ``DIR/wandb``, for ``wandb sync``."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from ..runtime.log import get_logger
from .tracker import PROJECT, Ending, Picture, TrackedRun


class WeightsAndBiases:
    """A `Tracker` with a run of Weights & Biases. Its variables, such as ``WANDB_PROJECT``, apply."""

    def __init__(self, run: TrackedRun) -> None:
        mode: Any = os.environ.get("WANDB_MODE")
        if not mode:
            mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        if mode == "offline":
            get_logger().info("wandb writes to %s only; wandb sync uploads that", run.folder / "wandb")
        self._run = wandb.init(
            id=run.identity,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", run.folder.name),
            dir=str(run.folder),
            config=dict(run.keys),
            allow_val_change=True,  # a resumed run may have other learning rates
            mode=mode,
            settings=wandb.Settings(
                silent=True,  # otherwise it prints among the progress lines
                console="off",  # or takes over standard output
                init_timeout=run.patience_s,
                finish_timeout=run.patience_s,
            ),
        )
        # Not wandb's own step: it refuses steps below the last one, which a resumed run may report again.
        self._run.define_metric("iteration", hidden=True)
        self._run.define_metric("*", step_metric="iteration")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"iteration": step, **values})

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        images = {name: wandb.Image(picture) for name, picture in pictures.items()}
        self._run.log({"iteration": step, **images})

    def files(self, name: str, files: Sequence[Path]) -> None:
        kind = "model" if name.startswith("checkpoint") else "report"
        artifact = wandb.Artifact(f"{self._run.id}-{name}", type=kind)
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def flush(self) -> None:
        """Nothing: wandb writes in a process of its own."""

    def close(self, ending: Ending) -> None:
        self._run.finish(exit_code=0 if ending is Ending.FINISHED else 1)
