"""The commands with images, labels and shards on a server give what they give from the disk."""

import json
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from remote_server import serving

# The server is a thread, and Python 3.12 warns of loader processes that are forked beside threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def sharded(tiny, tmp_path_factory):
    """The folder of the lists of the tiny dataset in shards."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("sharded")
    for name in ("training", "validation"):
        words = ["--cfg", str(tiny.config), str(tiny.folder / f"{name}.odgt"), str(folder)]
        assert main(["data", "shards", *words]) == 0
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """The default cache of a test, also in the processes that it starts."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def server(sharded, monkeypatch):
    """A server with the shards, of whose requests each tenth fails."""
    monkeypatch.setattr("mit_semseg.data.remote._PAUSE_S", 0.002)
    with serving(sharded) as server:
        server.fault = lambda number: "" if number % 10 else "drop"
        yield server


@pytest.fixture
def words(tiny, server, sharded, tmp_path):
    """The words of a command line that read the dataset from the server."""
    lists = {"list_train": sharded / "training.odgt", "list_val": sharded / "validation.odgt"}
    keys = {f"DATASET__{name}": path for name, path in lists.items()}
    cache = tmp_path / "cache"

    def make(**more):
        keys_here = {**keys, "DATASET__root_dataset": server.address, "DATASET__cache": cache, **more}
        return ["--cfg", tiny.config, *tiny.overrides(**keys_here)]

    return make


def test_a_training_ends_with_the_same_weights(trained, server, words, call, tmp_path):
    done = call("train", "--gpus", "cpu", *words(DIR=tmp_path / "run", TRAIN__workers=2))
    assert done.code == 0, done.err
    for part in ("encoder", "decoder"):
        expected, found = (
            torch.load(folder / f"{part}_epoch_2.pth", weights_only=True)
            for folder in (trained, tmp_path / "run")
        )
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert len(server.requests) > 10
    assert list((tmp_path / "cache").glob("*/*"))


def test_an_evaluation_has_the_same_scores(tiny, trained, server, words, call, tmp_path):
    local = ["--cfg", tiny.config, *tiny.overrides(DIR=trained, VAL__result=tmp_path / "local")]
    assert call("eval", "--gpus", "cpu", *local).code == 0
    more = {"DIR": trained, "VAL__result": tmp_path / "remote", "VAL__visualize": True}
    done = call("eval", "--gpus", "cpu", *words(**more))
    assert (done.code, done.err) == (0, "")
    matrices = [(tmp_path / name / "confusion.npy").read_bytes() for name in ("local", "remote")]
    assert matrices[0] == matrices[1]
    assert len(list((tmp_path / "remote").rglob("*.png"))) >= 3


def test_a_killed_evaluation_is_resumed(trained, server, words, call, tmp_path):
    keys = {"DIR": trained, "VAL__result": tmp_path / "remote", "VAL__batch_size": 1}
    server.fault = lambda number: "" if number <= 4 else "403"
    done = call("eval", "--gpus", "cpu", *words(**keys, TRAIN__workers=0, DATASET__cache_gb=0))
    assert done.code == 2
    assert "may not be read: the server answered 403 Forbidden." in done.err
    server.fault = lambda number: ""
    done = call("eval", "--gpus", "cpu", *words(**keys, VAL__resume=True))
    assert done.code == 0, done.err


def test_a_file_that_is_missing_is_named_with_its_address_and_line(tiny, server, words, call, tmp_path):
    records = tiny.records("training")
    for record in records:
        record["fpath_img"] = f"{server.address}/gone.jpg"
    path = tmp_path / "training.odgt"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = call(
        "train", "--gpus", "cpu", *words(DIR=tmp_path / "run", DATASET__list_train=path, TRAIN__workers=1)
    )
    assert done.code == 2
    assert "does not exist. See line" in done.err


def test_data_check_reads_addresses(tiny, server, call, tmp_path):
    lists = [server.folder / f"{name}.odgt" for name in ("training", "validation")]
    done = call("data", "check", "--cfg", tiny.config, "--root", server.address, *lists, "--workers", 1)
    assert done.code == 0, done.out
    assert f"Root folder: {server.address}" in done.out
    records = tiny.records("validation")
    records[0]["fpath_img"] = f"{server.address}/gone.jpg"
    path = tmp_path / "changed.odgt"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = call("data", "check", path, "--root", tiny.folder, "--workers", 0)
    assert done.code == 1
    assert f"{server.address}/gone.jpg does not exist." in done.out


def test_data_shards_copies_from_addresses(tiny, sharded, call, tmp_path):
    with serving(tiny.folder) as server:
        source = tiny.folder / "training.odgt"
        done = call("data", "shards", source, tmp_path / "out", "--root", server.address)
        assert (done.code, done.err) == (0, "")
        name = "training-000000.tar"
        assert (tmp_path / "out" / name).read_bytes() == (sharded / name).read_bytes()


def test_data_stats_reads_addresses(tiny, server, words, call, tmp_path):
    texts = []
    for name, root in (("local", server.folder), ("remote", server.address)):
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"DATASET:\n  root_dataset: {root}\n  list_train: {server.folder / 'training.odgt'}\n"
            f"  cache: {tmp_path / 'cache'}\n"
        )
        done = call("data", "stats", "--cfg", config)
        assert done.code == 0, done.err
        texts.append(config.read_text().split("mean:")[1])
    assert texts[0] == texts[1]
    assert server.requests


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_list_at_an_address_is_refused(tiny, trained, call, tmp_path, command):
    address = "https://host/list.odgt"
    keys = {"DATASET__list_train": address, "DATASET__list_val": address, "DIR": tmp_path / "run"}
    keys |= {"DIR": trained, "VAL__result": tmp_path / "result"} if command == "eval" else {}
    done = call(command, "--gpus", "cpu", "--cfg", tiny.config, *tiny.overrides(**keys))
    assert done.code == 2
    assert f"{address} is an address, but a list is a file on the disk." in done.err


def test_an_image_at_an_address_is_not_an_input(segment, monkeypatch, tmp_path):
    address = "https://host/a.jpg?version=1"
    expected = f"{address} is an address, but the inputs are files on this machine. Download it first."
    done = segment(address)
    assert done.code == 2
    assert expected in done.err
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(f"{address}\n".encode())))
    done = segment("-")
    assert done.code == 2
    assert expected in done.err
