"""Images and labels in tar files: the items of the files, and an error for a shard that is not whole."""

import json
import pickle
import re
import tarfile
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mit_semseg.data.bands import BandSelection
from mit_semseg.data.datasets import TestDataset, TrainDataset, ValDataset
from mit_semseg.data.shards import ShardError, content_of, file_on_disk, member_of
from mit_semseg.errors import UserError

OPTIONS = SimpleNamespace(
    imgSizes=(24, 32), imgMaxSize=64, padding_constant=8, segm_downsampling_rate=4, num_class=3
)


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def sharded(tiny, call, tmp_path):
    """The folder of both lists of the tiny dataset in shards."""
    for name in ("training", "validation"):
        done = call("data", "shards", tiny.folder / f"{name}.odgt", tmp_path / "sharded")
        assert (done.code, done.err) == (0, "")
    return tmp_path / "sharded"


@pytest.fixture
def first(sharded):
    """The path of the first training image."""
    return sharded / records(sharded / "training.odgt")[0]["fpath_img"]


def test_sub_batches_are_those_of_the_files_bit_for_bit(tiny, sharded):
    def dataset(folder):
        return TrainDataset(folder, folder / "training.odgt", OPTIONS, batch_per_gpu=2, seed=3)

    files, shards = dataset(tiny.folder), pickle.loads(pickle.dumps(dataset(sharded)))
    for index in (0, 1, 2, 17, 4):
        for expected, found in (
            (files[index], shards[index]),
            (files.sub_batch(index), shards.sub_batch(index)),
        ):
            assert torch.equal(found["img_data"], expected["img_data"])
            assert np.array_equal(found["seg_label"], expected["seg_label"])
    assert files.label_counts(4)["counts"].tolist() == shards.label_counts(4)["counts"].tolist()


def test_items_to_score_are_those_of_the_files(tiny, sharded):
    files, shards = (
        ValDataset(folder, folder / "validation.odgt", OPTIONS) for folder in (tiny.folder, sharded)
    )
    named = [str(sharded / record["fpath_img"]) for record in records(sharded / "validation.odgt")]
    images = TestDataset(named, OPTIONS)
    for k in range(3):
        expected, found = files[k], shards[k]
        assert torch.equal(found["seg_label"], expected["seg_label"])
        for other in (found, images[k]):
            assert all(map(torch.equal, other["img_data"], expected["img_data"]))


def test_the_bands_of_files_are_read_from_shards_too(call, tmp_path):
    pytest.importorskip("tifffile").imwrite(
        tmp_path / "b.tif", np.arange(60, dtype=np.uint16).reshape(5, 4, 3)
    )
    np.save(tmp_path / "a.npy", np.arange(40, dtype=np.float32).reshape(5, 4, 2))
    (tmp_path / "all.odgt").write_text('{"fpath_img": "a.npy"}\n{"fpath_img": "b.tif"}\n')
    assert call("data", "shards", tmp_path / "all.odgt", tmp_path / "out").code == 0
    for record, name, channels in zip(
        records(tmp_path / "out" / "all.odgt"), ("a.npy", "b.tif"), (2, 3), strict=True
    ):
        selection = BandSelection(channels)
        found = selection.read(tmp_path / "out" / record["fpath_img"])
        assert np.array_equal(found.values, selection.read(tmp_path / name).values)


def test_a_path_of_a_file_is_not_a_member():
    assert member_of("a/b.tar/c.jpg") is None
    assert member_of("a.tar#12/c.jpg") is None
    assert str(file_on_disk("a/b#1+2/c.jpg")) == "a/b#1+2/c.jpg"


def test_a_missing_shard_is_named_with_the_line_of_the_list(sharded):
    (sharded / "training-000000.tar").unlink()
    dataset = TrainDataset(sharded, sharded / "training.odgt", OPTIONS)
    with pytest.raises(
        UserError, match=r"training-000000\.tar does not exist.* See line \d of .*training\.odgt"
    ):
        dataset[0]


def test_a_shard_that_is_cut_off_is_truncated(first):
    member = member_of(first)
    with member.shard.open("r+b") as file:
        file.truncate(member.offset + member.size - 1)
    with pytest.raises(ShardError, match="is truncated: it has") as caught:
        content_of(first)
    assert pickle.loads(pickle.dumps(caught.value)).kind == "truncated"


@pytest.mark.parametrize("change", ["another image", "another name", "moved", "no tar"])
def test_a_shard_that_has_changed_is_refused(sharded, first, change):
    member = member_of(first)
    content = member.shard.read_bytes()
    if change == "no tar":
        content = bytes(len(content))
    elif change == "moved":
        content = content[512:] + content[:512]
    else:
        with tarfile.open(member.shard, "w") as tar:
            info = tarfile.TarInfo(member.name if change == "another image" else "other.jpg")
            info.size = member.size - (change == "another image")
            for _ in range(4):  # so that it is not shorter
                tar.addfile(info, BytesIO(bytes(info.size)))
        content = None
    if content is not None:
        member.shard.write_bytes(content)
    with pytest.raises(
        ShardError, match=r"training-000000\.tar has changed: its member .* Write the shards again"
    ):
        content_of(first)


def test_an_image_in_a_shard_that_cannot_be_decoded_is_named(first):
    member = member_of(first)
    with member.shard.open("r+b") as file:
        file.seek(member.offset)
        file.write(bytes(member.size))
    with pytest.raises(UserError, match=re.escape(f"{first} is not an image")):
        TestDataset([str(first)], OPTIONS)[0]


def test_training_skips_images_of_a_missing_shard_if_asked(sharded):
    lines = (sharded / "training.odgt").read_text().splitlines(keepends=True)
    lost = [lines[0].replace("training-000000.tar", "lost.tar"), *lines[1:]]
    (sharded / "training.odgt").write_text("".join(lost))
    options = SimpleNamespace(**vars(OPTIONS), on_error="skip")
    dataset = TrainDataset(sharded, sharded / "training.odgt", options)
    skipped = [message for k in range(6) for message in dataset.sub_batch(k)["skipped"]]
    assert skipped
    assert all("lost.tar does not exist" in message for message in skipped)
