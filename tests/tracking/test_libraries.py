"""What the libraries write on this machine: a run, its interruption, its resumption, its evaluation.

Without wandb or mlflow, which are not among the packages for the tests, these tests are skipped.
"""

import json
import shutil
import struct

import pytest


def steps(tmp_path, tiny, call, tracker):
    """A run of three epochs, with one that was killed at the end of its second epoch, and its evaluation."""
    folder = tmp_path / "run"
    words = ["--gpus", "cpu", "--cfg", tiny.config]
    keys = tiny.overrides(DIR=folder, TRAIN__resume="auto", VAL__every=1, TRAIN__trackers=tracker)
    for epochs in (1, 2, 3):
        assert call("train", *words, *keys, "TRAIN.num_epoch", epochs).code == 0
        if epochs == 1:
            shutil.copy(folder / "state.pth", tmp_path)
        if epochs == 2:
            shutil.copy(tmp_path / "state.pth", folder)
    outcome = call("eval", *words, *keys)
    assert (outcome.code, outcome.err) == (0, "")
    return folder


def wandb_records(file):
    """The records of a file that wandb writes offline, which has the form of LevelDB's logs.

    Blocks of 32 KB hold parts: checksum, length, kind (1 whole, 2 first, 3 middle, 4 last), bytes.
    """
    from wandb.proto import wandb_internal_pb2

    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@pytest.mark.filterwarnings("ignore")  # of wandb itself
def test_wandb_offline(tmp_path, tiny, call, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = steps(tmp_path, tiny, call, "wandb")
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 4  # three starts and the evaluation
    identity = json.loads((folder / "run.json").read_text())["id"]
    losses, ious, pictures, artifacts, eval_scores = {}, {}, set(), set(), {}
    for file in files:
        for record in wandb_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                assert (record.run.run_id, record.run.project) == (identity, "mit-semseg")
                config = {item.key: item.value_json for item in record.run.config.update}
                assert config["TRAIN.epoch_iters"] == "2"
            elif kind == "history":
                items = record.history.item
                row = {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}
                losses |= {row["iteration"]: row["train/loss"]} if "train/loss" in row else {}
                ious |= {row["iteration"]: row["val/iou/brick"]} if "val/iou/brick" in row else {}
                eval_scores |= {key: value for key, value in row.items() if key.startswith("eval/")}
                pictures |= {key.removesuffix("/_type") for key in row if key.endswith("/_type")}
                assert "rate/encoder" in row or "train/loss" not in row
            elif kind == "request" and record.request.HasField("log_artifact"):
                artifacts.add(record.request.log_artifact.artifact.name.removeprefix(f"{identity}-"))
            elif kind == "artifact":
                artifacts.add(record.artifact.name.removeprefix(f"{identity}-"))
    table = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()[1:]]
    assert losses == {int(row[1]): float(row[2]) for row in table if row[2]}
    assert sorted(ious) == [2, 4, 6]
    assert pictures == {f"val/validation/{k}.jpg" for k in range(3)}
    assert artifacts == {"checkpoint-best", "checkpoint-last", "curves", "report"}
    metrics = json.loads((folder / "result" / "metrics.json").read_text())
    assert eval_scores["eval/mean_iou"] == metrics["mean_iou"]
    assert eval_scores["eval/iou/brick"] == metrics["classes"][0]["iou"]


@pytest.mark.filterwarnings("ignore")  # of mlflow itself
def test_mlflow_with_a_store_on_the_disk(tmp_path, tiny, call, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes ten seconds to set up
    store = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    folder = steps(tmp_path, tiny, call, "mlflow")
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("mit-semseg")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["TRAIN.epoch_iters"] == "2"
    table = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()[1:]]
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert {point.step: point.value for point in points} == {
        int(row[1]): float(row[2]) for row in table if row[2]
    }
    assert {point.step for point in client.get_metric_history(run.info.run_id, "val/iou/brick")} == {2, 4, 6}
    metrics = json.loads((folder / "result" / "metrics.json").read_text())
    (point,) = client.get_metric_history(run.info.run_id, "eval/mean_iou")
    assert (point.step, point.value) == (6, metrics["mean_iou"])

    def artifacts(path):
        return {each.path for each in client.list_artifacts(run.info.run_id, path)}

    assert artifacts("") == {
        *("checkpoint-best", "checkpoint-last", "config.yaml", "curves", "report", "samples")
    }
    assert artifacts("report") == {"report/report.html", "report/metrics.json"}
    assert "checkpoint-last/encoder_epoch_3.pth" in artifacts("checkpoint-last")
    assert len(artifacts("samples/val/validation/0.jpg")) == 3


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_cannot_be_reached_costs_one_warning(tmp_path, tiny, call, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    keys = tiny.overrides(DIR=tmp_path / "run", TRAIN__trackers="mlflow", TRAIN__num_epoch=1)
    outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys)
    assert outcome.code == 0
    assert outcome.out.count("mlflow failed and gets no more data; the run itself continues.") == 1
    assert (tmp_path / "run" / "encoder_epoch_1.pth").is_file()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_library_that_is_not_installed_is_named_before_anything_starts(
    tmp_path, tiny, call, monkeypatch, name
):
    monkeypatch.setattr("mit_semseg.tracking.trackers.find_spec", lambda module: None)
    keys = tiny.overrides(DIR=tmp_path / "run", TRAIN__trackers=name)
    outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys)
    assert outcome.code == 2
    assert outcome.err.startswith(f"TRAIN.trackers names {name}, which is not installed. Run: pip install ")
    assert not (tmp_path / "run").exists()
