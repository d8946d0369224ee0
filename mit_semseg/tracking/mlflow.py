"""MLflow: a run on the server or in the store of ``MLFLOW_TRACKING_URI``; by default ``mlflow.db`` here."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from .tracker import PROJECT, Ending, Picture, TrackedRun

_TAG = "mit_semseg.run"
_STATUS = {Ending.FINISHED: "FINISHED", Ending.STOPPED: "KILLED", Ending.FAILED: "FAILED"}
_PARAMS = 100  # that a request may have
_LONGEST = 6000  # characters of a parameter's value


class MLflow:
    """A `Tracker` with a run of MLflow, which a resumed run finds by its tag ``mit_semseg.run``.

    The variables ``MLFLOW_EXPERIMENT_NAME`` and ``MLFLOW_RUN_NAME`` apply, too.
    """

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(run.patience_s) // 2)))
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # or it tells how it makes its tables
        self._client = MlflowClient()
        self._ended = run.ended
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        found = []
        if run.resumed:
            found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.identity}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            if not run.ended:
                self._client.update_run(self._id, status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_RUN_NAME", run.folder.name)
            made = self._client.create_run(experiment, tags={_TAG: run.identity}, run_name=name)
            self._id = made.info.run_id
            # Once: MLflow refuses to change a parameter. What a resumed run changes is in config.yaml.
            params = [Param(key, str(value)[:_LONGEST]) for key, value in run.keys.items()]
            for first in range(0, len(params), _PARAMS):
                self._client.log_batch(self._id, params=params[first : first + _PARAMS])
        if not run.ended:
            self._client.log_text(self._id, run.config, "config.yaml")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [Metric(_allowed(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        for name, picture in pictures.items():
            self._client.log_image(self._id, picture, artifact_file=f"samples/{name}/{step:08}.png")

    def files(self, name: str, files: Sequence[Path]) -> None:
        for file in files:
            self._client.log_artifact(self._id, str(file), name)

    def flush(self) -> None:
        """Nothing: each call has sent what it was given."""

    def close(self, ending: Ending) -> None:
        if not self._ended:
            self._client.set_terminated(self._id, _STATUS[ending])


def _allowed(name: str) -> str:
    """A name without the characters that MLflow refuses, as class names may have them."""
    return "".join(char if char.isalnum() or char in "_-./ " else "_" for char in name)
