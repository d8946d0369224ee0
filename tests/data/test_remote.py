"""Files at addresses, from a server that fails in many ways, and from a store in memory."""

import json
import multiprocessing
import pickle
import random
import re
import sys
import tarfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import torch
from remote_server import serving

from mit_semseg.data import remote
from mit_semseg.data.datasets import TestDataset, TrainDataset, ValDataset
from mit_semseg.data.file_cache import FileCache
from mit_semseg.data.images import open_image
from mit_semseg.data.loader import loading
from mit_semseg.data.remote import Address, address_of, as_path
from mit_semseg.data.scenes import Raster, SceneError
from mit_semseg.data.shards import content_of, file_on_disk, located, member_of, opened, state_of_content
from mit_semseg.errors import ContentError, UserError

# The server is a thread, and Python 3.12 warns of loader processes that are forked beside threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CONTENT = bytes(range(256)) * 40


def options(cache, **more):
    """The options of a dataset, with a cache in a folder."""
    keys = {"imgSizes": (24, 32), "imgMaxSize": 64, "padding_constant": 8, "segm_downsampling_rate": 4}
    return SimpleNamespace(**keys, num_class=3, cache=str(cache), **{"cache_gb": 1.0, **more})


def listed(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Waits of milliseconds, as a test needs them."""
    monkeypatch.setattr(remote, "_PAUSE_S", 0.002)


@pytest.fixture
def files(tmp_path):
    """A folder with a file and a shard of it."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.bin").write_bytes(CONTENT)
    with tarfile.open(folder / "s.tar", "w") as tar:
        for name in ("first.bin", "a.bin", "last.bin"):
            info = tarfile.TarInfo(name)
            info.size = len(CONTENT)
            tar.addfile(info, BytesIO(CONTENT))
    return folder


@pytest.fixture
def server(files):
    with serving(files) as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    return FileCache(tmp_path / "cache", 10**6)


@pytest.fixture
def whole(server, cache):
    """The address of the file."""
    return Address(f"{server.address}/a.bin", cache)


@pytest.fixture
def member(server, cache):
    """The address of the second member of the shard."""
    offset = 512 + len(CONTENT) + 512
    return Address(f"{server.address}/s.tar#{offset}+{len(CONTENT)}/a.bin", cache)


@pytest.fixture
def sharded(tiny, call, tmp_path):
    """The folder of both lists of the tiny dataset in shards of a few images."""
    for name in ("training", "validation"):
        assert call("data", "shards", tiny.folder / f"{name}.odgt", tmp_path / "sharded").code == 0
    return tmp_path / "sharded"


# Names


def test_an_address_joins_names_as_its_scheme_needs():
    names = {
        ("https://host/data", "a/photo 1#2?.jpg"): "https://host/data/a/photo%201%232%3F.jpg",
        ("https://host/data/", "./a/../b.jpg"): "https://host/data/b.jpg",
        ("https://host", "t 1.tar#1536+48/p 1.jpg"): "https://host/t%201.tar#1536+48/p 1.jpg",
        ("s3://bucket/data", "a/photo 1#2?.jpg"): "s3://bucket/data/a/photo 1#2?.jpg",
        ("s3://bucket", "https://host/b.jpg"): "https://host/b.jpg",
        ("data", "s3://bucket/b.jpg"): "s3://bucket/b.jpg",
    }
    for (root, name), expected in names.items():
        place = located(root, name)
        assert isinstance(place, Address)
        assert place == expected


def test_paths_stay_paths():
    assert located("data", "a/b.jpg") == Path("data/a/b.jpg")
    assert located("https://host/data", "/a/b.jpg") == Path("/a/b.jpg")
    assert [address_of(name) for name in ("a:/b", "C://b", "a/https://b", "http:/b")] == [None] * 4
    assert as_path("a/b?c.jpg") == "a/b?c.jpg"


def test_an_address_keeps_its_cache_when_it_is_sent(cache):
    again = pickle.loads(pickle.dumps(located("s3://bucket", "t.tar#512+4/a", cache)))
    assert isinstance(again, Address)
    assert again.cache == member_of(again).shard.cache == cache


def test_the_state_of_an_address_needs_no_request(server, whole, member, tmp_path):
    assert state_of_content(whole) == state_of_content(member) == [0, 0]
    assert file_on_disk(whole) is file_on_disk(member) is None
    assert state_of_content(tmp_path / "gone") is None
    assert not server.requests


# Fetching


def test_content_is_fetched_once(server, whole, member):
    for _ in range(2):
        assert content_of(whole) == content_of(member) == CONTENT
        assert opened(member).getvalue() == CONTENT
    start = 512 + len(CONTENT)
    assert server.requests == [("/a.bin", ""), ("/s.tar", f"bytes={start}-{start + 511 + len(CONTENT)}")]


def test_without_a_limit_for_copies_none_is_kept(server, whole, tmp_path):
    address = Address(whole, FileCache(tmp_path / "none", 0))
    assert content_of(address) == content_of(address) == CONTENT
    assert len(server.requests) == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("fault", ["drop", "500", "503", "429", "slow"])
@pytest.mark.parametrize("which", ["whole", "member"])
def test_failures_that_pass_are_not_noticed(server, request, which, fault):
    server.fault = lambda number: fault if number < 4 else ""
    assert content_of(request.getfixturevalue(which)) == CONTENT
    assert len(server.requests) == (1 if fault == "slow" else 4)


@pytest.mark.parametrize("fault", ["short", "long", "other"])
def test_a_part_of_the_wrong_length_or_place_is_asked_for_again(server, member, fault):
    server.fault = lambda number: fault if number < 3 else ""
    assert content_of(member) == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("drop", "cannot be fetched: .*not completed.* (6 attempts)"),
        ("500", "cannot be fetched: the server answered 500 Internal Server Error (6 attempts)."),
        ("short", "cannot be fetched: 5,376 bytes came instead of 10,752 (6 attempts)."),
        ("long", "cannot be fetched: 10,756 bytes came instead of 10,752 (6 attempts)."),
        ("other", "cannot be fetched: the server sent another part (bytes 10753-21503/"),
    ],
)
def test_failures_that_stay_are_reported_with_the_address(server, member, cache, fault, what):
    server.fault = lambda number: fault
    pattern = re.escape(f"{server.address}/s.tar ") + re.escape(what).replace(r"\.\*", ".*")
    with pytest.raises(ContentError, match=pattern):
        content_of(member)
    assert len(server.requests) == 6
    assert cache.get(member) is None


@pytest.mark.parametrize(
    ("fault", "kind", "what"),
    [
        ("404", "missing", " does not exist."),
        ("410", "missing", " does not exist."),
        ("403", "unreadable", " may not be read: the server answered 403 Forbidden."),
        ("401", "unreadable", " may not be read: the server answered 401 Unauthorized."),
    ],
)
@pytest.mark.parametrize("which", ["whole", "member"])
def test_refusals_are_reported_at_once(server, request, which, fault, kind, what):
    server.fault = lambda number: fault
    address = request.getfixturevalue(which)
    with pytest.raises(ContentError) as caught:
        content_of(address)
    assert str(caught.value) == address.partition("#")[0] + what
    assert pickle.loads(pickle.dumps(caught.value)).kind == kind
    assert len(server.requests) == 1


def test_a_server_that_redirects_to_itself_is_reported_at_once(server, whole):
    server.fault = lambda number: "loop"
    with pytest.raises(ContentError, match="redirects again and again"):
        content_of(whole)
    assert len(server.requests) < 15  # aiohttp follows ten


@pytest.mark.parametrize("address", ["http://", "http://[bad/a.jpg"])
def test_an_address_that_is_not_valid_is_not_tried_again(cache, address, monkeypatch):
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: pytest.fail("a second attempt"))
    with pytest.raises(
        ContentError, match=re.escape(f"{address} cannot be fetched: this is not a valid address.")
    ):
        content_of(Address(address, cache))


def test_a_server_without_parts_is_refused_before_it_sends_a_shard(server, member):
    server.fault = lambda number: "whole"
    with pytest.raises(ContentError, match=r"s\.tar cannot be read in parts, .* ignores the header Range"):
        content_of(member)
    assert len(server.requests) == 1


def test_a_server_that_is_silent_is_asked_again(server, whole, monkeypatch):
    monkeypatch.setattr(remote, "_TIMEOUT_S", 0.2)
    server.fault = lambda number: "hang" if number == 1 else ""
    assert content_of(whole) == CONTENT
    server.fault = lambda number: "hang"
    whole.cache.remove(whole)
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.3)
    with pytest.raises(ContentError, match=r"cannot be fetched: no data arrived for 0\.2 s \(2 attempts\)"):
        content_of(whole)


def test_a_scheme_may_be_in_upper_case_and_an_address_may_have_colons(server, cache, files):
    (files / "a::b.bin").write_bytes(CONTENT)
    for address in (server.address.upper() + "/a.bin", server.address + "/a::b.bin"):
        assert content_of(Address(address, cache)) == CONTENT
    system, path = remote._file_system(Address("HTTP://[::1]:8000/a.jpg", cache))
    assert (system.protocol[0], path) == ("http", "http://[::1]:8000/a.jpg")


def test_a_server_that_is_down_is_reported(whole, server, monkeypatch):
    server.server_close()
    with pytest.raises(ContentError, match=r"cannot be fetched: .*Connect.* \(6 attempts\)"):
        content_of(whole)


def test_a_shard_that_has_changed_is_reported_and_not_kept(server, member, cache, files):
    shard = (files / "s.tar").read_bytes()
    (files / "s.tar").write_bytes(shard[512:] + shard[:512])
    with pytest.raises(ContentError, match=r"s\.tar has changed: its member a\.bin of 10,240 bytes is not"):
        content_of(member)
    (files / "s.tar").write_bytes(shard)
    assert content_of(member) == CONTENT


def test_a_shard_that_is_too_short_is_truncated(server, member, files):
    (files / "s.tar").write_bytes(bytes(600))
    with pytest.raises(ContentError, match=r"s\.tar is shorter than the list says") as caught:
        content_of(member)
    assert caught.value.kind == "truncated"


def test_a_file_that_cannot_be_decoded_is_fetched_again(server, whole, files, tiny):
    with pytest.raises(UserError, match=re.escape(f"{whole} is not an image that Pillow can read.")):
        open_image(whole)
    (files / "a.bin").write_bytes((tiny.folder / tiny.records("training")[0]["fpath_img"]).read_bytes())
    assert open_image(whole).size == (48, 36)


def test_a_missing_package_is_named_with_the_command(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(
        UserError, match=re.escape(f"{whole} needs the package aiohttp. Run: pip install fsspec aiohttp")
    ):
        content_of(whole)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("s3://bucket/a.jpg", "needs another package, by pip: .*s3fs"),
        ("nothing://a.jpg", "cannot be fetched: Protocol not known"),
    ],
)
def test_a_store_that_fsspec_does_not_reach_is_named(address, what, cache):
    if address.startswith("s3") and find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(UserError, match=re.escape(address) + " " + what):
        content_of(Address(address, cache))


def test_a_scene_at_an_address_is_refused(cache):
    pytest.importorskip("rasterio")
    with pytest.raises(SceneError, match=r"https://host/a\.tif is an address\. .* copy the scene there"):
        Raster(Address("https://host/a.tif", cache))


# Datasets


def test_sub_batches_from_a_bad_server_are_those_of_the_disk_bit_for_bit(tiny, sharded, tmp_path):
    """One request in ten fails, each in another way, and workers share a cache that is too small for all."""
    draw = random.Random(5)
    faults = ["drop", "500", "slow", "short", "503", "long"]
    limit_gb = 20_000 / 1e9
    with serving(sharded) as server:
        server.fault = lambda number: draw.choice(faults) if draw.random() < 0.1 else ""
        local = TrainDataset(sharded, sharded / "training.odgt", options(""), batch_per_gpu=2, seed=3)
        keys = options(tmp_path / "cache", cache_gb=limit_gb)
        there = TrainDataset(server.address, sharded / "training.odgt", keys, batch_per_gpu=2, seed=3)
        with loading(there.sub_batch, range(40), workers=2, device=torch.device("cpu")) as items:
            for index, found in enumerate(items):
                assert not isinstance(found, UserError), found
                expected = local.sub_batch(index)
                assert torch.equal(found["img_data"], expected["img_data"])
                assert np.array_equal(found["seg_label"], expected["seg_label"])
                sizes = [path.stat().st_size for path in (tmp_path / "cache").glob("*/*")]
                assert sum(sizes) <= 20_000
        assert len(server.requests) > 12
        assert there.files(0)[0].startswith(server.address)


def _read(dataset, results):
    results.put([dataset.as_bytes(k)["seg_label"].sum().item() for k in range(3)])


def test_two_processes_share_the_copies(tiny, tmp_path):
    context = multiprocessing.get_context("fork")
    with serving(tiny.folder) as server:
        dataset = ValDataset(server.address, tiny.folder / "validation.odgt", options(tmp_path / "cache"))
        dataset = pickle.loads(pickle.dumps(dataset))  # as for a spawned process
        results = context.Queue()
        found = []
        for _ in range(2):
            process = context.Process(target=_read, args=(dataset, results))
            process.start()
            found.append(results.get(timeout=60))
            process.join()
        assert found[0] == found[1]
        assert len(server.requests) == len(set(server.requests)) == 6


def test_lists_may_name_files_and_addresses(tiny, tmp_path):
    with serving(tiny.folder) as server:
        mixed = [
            {**record, "fpath_segm": f"{server.address}/{record['fpath_segm']}"}
            for record in tiny.records("validation")
        ]
        found = ValDataset(tiny.folder, mixed, options(tmp_path / "cache"))
        expected = ValDataset(tiny.folder, tiny.folder / "validation.odgt", options(""))
        images = TestDataset([f"{server.address}/validation/{k}.jpg" for k in range(3)], options(tmp_path))
        for k in range(3):
            assert torch.equal(found[k]["seg_label"], expected[k]["seg_label"])
            for item in (found[k], images[k]):
                assert all(map(torch.equal, item["img_data"], expected[k]["img_data"]))
        assert images[1]["info"] == f"{server.address}/validation/1.jpg"


def test_a_store_in_memory_is_read_like_a_bucket(sharded, tmp_path):
    store = fsspec.filesystem("memory")
    for path in sharded.glob("*.tar"):
        store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    store.pipe_file("/bucket/photo 1#2.bin", CONTENT)
    try:
        local = TrainDataset(sharded, sharded / "training.odgt", options(""))
        there = TrainDataset("memory://bucket", sharded / "training.odgt", options(tmp_path / "cache"))
        for k in range(4):
            assert torch.equal(local.sub_batch(k)["img_data"], there.sub_batch(k)["img_data"])
        assert content_of(located("memory://bucket", "photo 1#2.bin", FileCache(tmp_path, 0))) == CONTENT
        store.rm("/bucket/training-000000.tar")
        fresh = TrainDataset("memory://bucket", sharded / "training.odgt", options(tmp_path / "fresh"))
        with pytest.raises(
            UserError, match=r"memory://bucket/training-000000\.tar does not exist\. See line \d of"
        ):
            fresh.sub_batch(0)
    finally:
        store.rm("/bucket", recursive=True)


def test_a_missing_remote_file_can_be_skipped(tiny, tmp_path):
    with serving(tiny.folder) as server:
        records = tiny.records("training")
        records[0]["fpath_img"] = "gone.jpg"
        dataset = TrainDataset(server.address, records, options(tmp_path / "cache", on_error="skip"))
        skipped = {message for k in range(6) for message in dataset.sub_batch(k)["skipped"]}
        assert skipped == {f"{server.address}/gone.jpg does not exist."}
