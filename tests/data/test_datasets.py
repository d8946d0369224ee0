import itertools
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import FORKS
from PIL import Image
from torch.utils.data import DataLoader

from mit_semseg.data.datasets import TestDataset, TrainDataset, ValDataset
from mit_semseg.data.images import MEAN, STD, normalize
from mit_semseg.errors import UserError

SIZES = [(40, 30), (60, 30), (30, 40), (47, 33), (33, 55), (32, 32), (64, 48)]  # width, height
NUM_CLASS = 4


def options(**changes):
    defaults = {
        "imgSizes": (24, 32),
        "imgMaxSize": 60,
        "padding_constant": 8,
        "segm_downsampling_rate": 4,
        "num_class": NUM_CLASS,
    }
    return SimpleNamespace(**{**defaults, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a list of seven noisy images, each with a label of four classes and unlabelled pixels."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.Generator(np.random.Philox(3))
    lines = []
    for k, (width, height) in enumerate(SIZES):
        blocks = rng.integers(0, NUM_CLASS + 1, (-(-height // 8), -(-width // 8))).astype(np.uint8)
        label = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(image).save(root / f"{k}.png")
        Image.fromarray(label).save(root / f"{k}_label.png")
        lines.append(
            {"fpath_img": f"{k}.png", "fpath_segm": f"{k}_label.png", "width": width, "height": height}
        )
    (root / "list.odgt").write_text("\n".join(map(json.dumps, lines)))
    return root


def records(root):
    return [json.loads(line) for line in (root / "list.odgt").read_text().splitlines()]


def same(a, b):
    return torch.equal(a["img_data"], b["img_data"]) and np.array_equal(a["seg_label"], b["seg_label"])


def normalized(pixels):
    """By the formula, in float64."""
    return ((np.asarray(pixels) / 255 - MEAN) / STD).transpose(2, 0, 1)


# Training


def test_a_sub_batch_made_by_hand(tmp_path):
    # One image of 10 x 6 at short edge 6: not scaled, padded to 16 x 8, its label reduced by 4.
    image = np.arange(180, dtype=np.uint8).reshape(6, 10, 3)
    label = np.zeros((6, 10), np.uint8)
    label[2, 2], label[2, 6] = 3, 1  # the middles of the first two cells
    label[0, 0] = 4  # not the middle of any
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(label).save(tmp_path / "b.png")
    odgt = [{"fpath_img": "a.png", "fpath_segm": "b.png", "width": 10, "height": 6}]
    item = TrainDataset(tmp_path, odgt, options(imgSizes=(6,), random_flip=False))[0]

    assert item["img_data"].dtype == torch.float32
    assert item["img_data"].shape == (1, 3, 8, 16)
    np.testing.assert_allclose(item["img_data"][0, :, :6, :10], normalized(image), atol=1e-6)
    assert not item["img_data"][0, :, 6:].any()
    assert not item["img_data"][0, :, :, 10:].any()
    assert item["seg_label"].dtype == torch.int64
    assert item["seg_label"].tolist() == [[[2, 0, -1, -1], [-1, -1, -1, -1]]]
    assert item["info"] == [str(tmp_path / "a.png")]


def test_padding_is_ignored_and_never_wall(root):
    dataset = TrainDataset(root, root / "list.odgt", options(padding_constant=32), batch_per_gpu=3, seed=1)
    padded = 0
    for i in range(12):
        item = dataset[i]
        # A cell whose whole image area is padding must be -1. Noise is nowhere exactly the mean colour.
        empty = (item["img_data"] == 0).all(1).unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).all(3)
        assert (item["seg_label"][empty] == -1).all()
        padded += int(empty.sum())
    assert padded > 100


def test_shapes_obey_padding_constant_and_rate(root):
    for padding, rate in [(8, 8), (32, 4), (6, 3), (1, 1)]:
        dataset = TrainDataset(
            root, root / "list.odgt", options(padding_constant=padding, segm_downsampling_rate=rate), 2
        )
        for i in range(8):
            images, labels = dataset[i]["img_data"], dataset[i]["seg_label"]
            assert images.shape[2] % padding == images.shape[3] % padding == 0
            assert labels.shape == (2, images.shape[2] // rate, images.shape[3] // rate)
            assert labels.min() >= -1
            assert labels.max() < NUM_CLASS


def test_the_published_label_reduction_is_nearest_on_the_padded_label(root):
    for rate in (1, 3, 4, 8):
        opt = options(imgSizes=(32,), padding_constant=24, segm_downsampling_rate=rate, random_flip=False)
        for record in records(root):
            label = TrainDataset(root, [record], opt)[0]["seg_label"][0].numpy()
            scale = min(
                32 / min(record["width"], record["height"]), 60 / max(record["width"], record["height"])
            )
            size = (int(record["width"] * scale), int(record["height"] * scale))
            canvas = Image.new("L", tuple(-(-side // rate) * rate for side in size), 0)
            canvas.paste(
                Image.open(root / record["fpath_segm"]).resize(size, Image.Resampling.NEAREST), (0, 0)
            )
            width, height = canvas.width // rate, canvas.height // rate
            wanted = np.asarray(canvas.resize((width, height), Image.Resampling.NEAREST)).astype(int) - 1
            np.testing.assert_array_equal(label[:height, :width], wanted)
            assert (label[height:] == -1).all()
            assert (label[:, width:] == -1).all()


def test_one_index_gives_one_item_whatever_was_asked_before(root):
    # The old loader ignored its index.
    dataset = TrainDataset(root, str(root / "list.odgt"), options(), batch_per_gpu=2, seed=5)
    items = [dataset[i] for i in range(8)]
    again = pickle.loads(pickle.dumps(TrainDataset(root, records(root), options(), batch_per_gpu=2, seed=5)))
    np.random.seed(0)  # noqa: NPY002  the global state that the old loader drew from
    torch.manual_seed(0)
    assert all(same(again[i], items[i]) for i in (7, 0, 3, 3, 6, 1, 2, 5, 4))
    assert len({tuple(item["info"]) for item in items}) > 4


def test_workers_give_the_sequence_of_the_main_process(root):
    # The old loader repeated one order in every worker.
    dataset = TrainDataset(root, root / "list.odgt", options(), batch_per_gpu=2, seed=5)
    loader = DataLoader(
        dataset, batch_size=None, sampler=range(20, 32), num_workers=2, multiprocessing_context=FORKS
    )
    for i, item in zip(range(20, 32), loader, strict=True):
        assert same(item, dataset[i])
        assert item["info"] == dataset[i]["info"]


def test_ranks_see_different_images_that_make_up_the_whole(root):
    dataset = TrainDataset(root, root / "list.odgt", options(), batch_per_gpu=1)
    one_pass = [dataset[i]["info"][0] for i in range(7)]
    ranks = [[dataset[i]["info"][0] for i in range(rank, 7, 2)] for rank in range(2)]
    assert len(set(one_pass)) == 7
    assert sorted(itertools.chain(*ranks)) == sorted(one_pass)


@pytest.mark.parametrize(("batch", "length"), [(1, 7), (2, 3), (50, 1)])  # 2 portraits and 5 others
def test_a_pass_has_its_length_and_further_indices_are_valid(root, batch, length):
    assert TrainDataset(root, root / "list.odgt", options(), batch_per_gpu=batch).pass_length == length


def test_the_length_is_beyond_any_run(root):
    few = TrainDataset(root, root / "list.odgt", options(), batch_per_gpu=50)
    assert len(few) == 10**10
    assert few[3]["img_data"].shape[0] == 50


def test_random_flip_is_obeyed(root):
    # The old package had the key and never read it.
    kept = TrainDataset(root, root / "list.odgt", options(random_flip=False))
    drawn = TrainDataset(root, root / "list.odgt", options(random_flip=True))
    default = TrainDataset(root, root / "list.odgt", options())
    flipped = [not same(kept[i], drawn[i]) for i in range(40)]
    assert 10 < sum(flipped) < 30
    assert flipped == [bool(drawn.schedule[i].flips[0]) for i in range(40)]
    assert all(same(default[i], drawn[i]) for i in range(8))


def test_image_and_label_are_mirrored_together(tmp_path):
    ramp = np.tile(np.arange(0, 128, 8, dtype=np.uint8), (8, 1))
    Image.fromarray(np.dstack([ramp] * 3)).save(tmp_path / "a.png")
    Image.fromarray((ramp > 60).astype(np.uint8) + 1).save(tmp_path / "b.png")
    odgt = [{"fpath_img": "a.png", "fpath_segm": "b.png", "width": 16, "height": 8}]
    dataset = TrainDataset(tmp_path, odgt, options(imgSizes=(8,)))
    seen = set()
    for i in range(20):
        item = dataset[i]
        mirrored = bool(item["img_data"][0, 0, 0, 0] > item["img_data"][0, 0, 0, -1])
        assert item["seg_label"].tolist() == [[[1, 1, 0, 0]] * 2 if mirrored else [[0, 0, 1, 1]] * 2]
        seen.add(mirrored)
    assert seen == {True, False}


def test_the_size_in_the_list_may_be_wrong(root):
    right = records(root)[:1]
    wrong = [{**right[0], "width": 400, "height": 300}]
    assert same(TrainDataset(root, right, options())[0], TrainDataset(root, wrong, options())[0])


def test_a_single_short_edge_may_be_a_number(root):
    opt = options(imgSizes=24)
    assert TrainDataset(root, root / "list.odgt", opt)[0]["img_data"].shape[0] == 1
    assert len(ValDataset(root, root / "list.odgt", opt)[0]["img_data"]) == 1


# Validation and test


def test_a_validation_item_made_by_hand(root):
    dataset = ValDataset(root, root / "list.odgt", options())
    item = dataset[0]
    for pixels, values in zip(dataset.as_bytes(0)["img_data"], item["img_data"], strict=True):
        assert pixels.dtype == torch.uint8
        assert torch.equal(normalize(pixels), values)
    # 40 x 30 at short edges 24 and 32: 32 x 24 and 42 x 32, stretched to multiples of 8.
    assert sorted(item) == ["img_data", "img_ori", "info", "seg_label"]
    assert [tuple(image.shape) for image in item["img_data"]] == [(1, 3, 24, 32), (1, 3, 32, 48)]
    pixels = Image.open(root / "0.png")
    np.testing.assert_array_equal(item["img_ori"], np.asarray(pixels))
    for image, size in zip(item["img_data"], [(32, 24), (48, 32)], strict=True):
        stretched = normalized(pixels.resize(size, Image.Resampling.BILINEAR))
        np.testing.assert_allclose(image[0], stretched, atol=1e-6)
    label = np.asarray(Image.open(root / "0_label.png")).astype(int) - 1
    assert item["seg_label"].dtype == torch.int64
    np.testing.assert_array_equal(item["seg_label"], label[None])
    assert item["info"] == "0.png"


def test_a_test_item_is_a_validation_item_without_label(root):
    val = ValDataset(root, root / "list.odgt", options())
    for odgt in (
        [str(root / f"{k}.png") for k in range(7)],
        [{"fpath_img": root / f"{k}.png"} for k in range(7)],
        [{**record, "fpath_img": str(root / record["fpath_img"])} for record in records(root)],
    ):
        test = TestDataset(odgt, options())
        assert len(test) == len(val) == 7
        assert sorted(test[2]) == ["img_data", "img_ori", "info"]
        assert test[2]["info"] == str(root / "2.png")
        np.testing.assert_array_equal(test[2]["img_ori"], val[2]["img_ori"])
        for a, b in zip(test[2]["img_data"], val[2]["img_data"], strict=True):
            assert torch.equal(a, b)


def test_only_test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)[:4])
    image.save(tmp_path / "a.png", exif=exif)
    Image.new("L", (8, 4)).save(tmp_path / "b.png")
    odgt = [{"fpath_img": "a.png", "fpath_segm": "b.png", "width": 8, "height": 4}]
    assert ValDataset(tmp_path, odgt, options())[0]["img_ori"].shape == (4, 8, 3)
    assert TrainDataset(tmp_path, odgt, options(imgSizes=(4,)))[0]["img_data"].shape == (1, 3, 8, 8)
    np.testing.assert_array_equal(
        TestDataset([tmp_path / "a.png"], options())[0]["img_ori"], np.rot90(np.asarray(image))
    )


@pytest.mark.parametrize(
    ("keywords", "kept"),
    [
        ({}, range(7)),
        ({"max_sample": 3}, range(3)),
        ({"start_idx": 2, "end_idx": 4}, range(2, 4)),
        ({"start_idx": 5, "end_idx": 99}, range(5, 7)),
        ({"max_sample": 4, "start_idx": 3, "end_idx": 6}, range(3, 4)),
        ({"start_idx": 2}, range(7)),
    ],
)
def test_a_part_of_the_list_is_selected_as_ever(root, keywords, kept):
    val = ValDataset(root, root / "list.odgt", options(), **keywords)
    assert [val[i]["info"] for i in range(len(val))] == [f"{k}.png" for k in kept]
    train = TrainDataset(root, root / "list.odgt", options(), **keywords)
    assert train.num_sample == train.pass_length == len(kept)
    assert val.list_sample == [records(root)[k] for k in kept]


# Errors


def test_an_empty_part_is_refused(root):
    with pytest.raises(ValueError, match=r"start_idx 3 to end_idx 3 leave no record of .*list\.odgt"):
        ValDataset(root, root / "list.odgt", options(), start_idx=3, end_idx=3)


def test_unknown_keywords_are_refused(root):
    for dataset in (TrainDataset, ValDataset):
        with pytest.raises(TypeError, match="max_samples"):
            dataset(root, root / "list.odgt", options(), max_samples=3)
    with pytest.raises(TypeError, match="seed"):
        TestDataset(["a.png"], options(), seed=3)


def test_a_rate_that_does_not_divide_the_padding_is_refused(root):
    with pytest.raises(ValueError, match="padding_constant 12 is not a multiple of segm_downsampling_rate 8"):
        TrainDataset(root, records(root), options(padding_constant=12, segm_downsampling_rate=8))


def test_a_file_error_names_file_and_line(root, tmp_path):
    lines = [{**record, "fpath_img": "no/such.jpg"} for record in records(root)[:1]]
    (tmp_path / "list.odgt").write_text("\n" + json.dumps(lines[0]))
    wanted = f"{root / 'no/such.jpg'} does not exist. See line 2 of {tmp_path / 'list.odgt'}."
    for dataset in (
        TrainDataset(root, tmp_path / "list.odgt", options()),
        ValDataset(root, tmp_path / "list.odgt", options()),
    ):
        with pytest.raises(UserError) as caught:
            dataset[0]
        assert str(caught.value) == wanted
    with pytest.raises(UserError, match=r"^no\.png does not exist\.$"):
        TestDataset(["no.png"], options())[0]


def test_a_value_beyond_num_class_is_found_even_where_the_reduction_skips_it(tmp_path):
    label = np.ones((8, 8), np.uint8)
    label[0, 0] = 9
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.fromarray(label).save(tmp_path / "b.png")
    odgt = [{"fpath_img": "a.png", "fpath_segm": "b.png", "width": 8, "height": 8}]
    with pytest.raises(UserError, match=r"b\.png holds the value 9, but with 4 classes"):
        TrainDataset(tmp_path, odgt, options())[0]
    opt = options()
    del opt.num_class
    assert ValDataset(tmp_path, odgt, opt)[0]["seg_label"].max() == 8


def test_an_error_in_a_worker_keeps_its_type_and_its_file(root):
    dataset = TestDataset([root / "0.png", "gone.png"], options())
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=FORKS)
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        list(loader)


# What training takes: bytes, to be normalized on the device


def test_a_sub_batch_in_bytes_is_the_item_before_its_normalization(root):
    dataset = TrainDataset(root, root / "list.odgt", options(), batch_per_gpu=3, seed=5)
    for index in range(12):
        item, raw = dataset[index], dataset.sub_batch(index)
        assert raw["img_data"].dtype == torch.uint8
        assert raw["skipped"] == []
        assert torch.equal(normalize(raw["img_data"], raw["sizes"]), item["img_data"])
        np.testing.assert_array_equal(raw["seg_label"], item["seg_label"])
        assert raw["info"] == item["info"]
        for pixels, (width, height) in zip(raw["img_data"], raw["sizes"], strict=True):
            assert not pixels[:, height:].any()
            assert not pixels[:, :, width:].any()


def test_photos_much_larger_than_needed_are_nearly_the_same_in_both_forms(tmp_path):
    ramp = np.linspace(0, 255, 400, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:300, None], np.uint8(90)), -1)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray((image[..., 0] // 80 + 1).astype(np.uint8)).save(tmp_path / "a.png")
    record = {"fpath_img": "a.jpg", "fpath_segm": "a.png", "width": 400, "height": 300}
    dataset = TrainDataset(tmp_path, [record], options(imgSizes=(30, 36), imgMaxSize=100))
    for index in range(6):
        item, raw = dataset[index], dataset.sub_batch(index)
        np.testing.assert_array_equal(raw["seg_label"], item["seg_label"])
        found = normalize(raw["img_data"], raw["sizes"])
        assert found.shape == item["img_data"].shape
        assert (found - item["img_data"]).abs().max() < 0.15  # of values from -2 to 2


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_augmented_sequence_depends_on_nothing_but_seed_and_index(root, workers):
    opt = options(
        augment="crop", crop_size=(24, 24), scale_range=(0.5, 2.0), crop_max_share=0.75, random_flip=True
    )
    dataset = TrainDataset(root, root / "list.odgt", opt, batch_per_gpu=2, seed=1)
    wanted = [dataset.sub_batch(index) for index in (9, 2, 5, 0)]
    again = TrainDataset(root, root / "list.odgt", opt, batch_per_gpu=2, seed=1)
    loader = DataLoader(SubBatches(again), batch_size=None, sampler=[9, 2, 5, 0], num_workers=workers)
    torch.manual_seed(workers)
    for item, other in zip(wanted, loader, strict=True):
        assert same(item, other)
        assert item["img_data"].shape[1:] == (3, 24, 24)
    other = TrainDataset(root, root / "list.odgt", opt, batch_per_gpu=2, seed=2)
    assert not same(other.sub_batch(9), wanted[0])


class SubBatches:
    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, index):
        return self.dataset.sub_batch(index)


def test_a_transform_of_the_callers_takes_the_place_of_the_recipe(root):
    def black(image, label):
        return torch.zeros_like(image)[:, :16, :16], torch.full_like(label, 2)[:16, :16]

    dataset = TrainDataset(root, root / "list.odgt", options(), batch_per_gpu=2, transform=black)
    raw = dataset.sub_batch(3)
    assert raw["img_data"].shape == (2, 3, 16, 16)
    assert not raw["img_data"].any()
    assert (raw["seg_label"] == 1).all()


# Labels of other kinds


def labelled(folder, values):
    folder.mkdir()
    values = np.array(values)
    Image.fromarray(values).save(folder / "a.png")
    Image.new("RGB", values.shape[::-1]).save(folder / "a.jpg")
    height, width = values.shape
    return [{"fpath_img": "a.jpg", "fpath_segm": "a.png", "width": width, "height": height}]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("keys", "classes"),
    [
        ({}, [-1, 0, 1, 2]),
        ({"label_offset": 0}, [0, 1, 2, 3]),
        ({"label_offset": 0, "ignore_label": 3}, [0, 1, 2, -1]),
        ({"label_offset": 2}, [-1, -1, 0, 1]),
    ],
)
def test_the_first_class_and_the_ignored_value_are_the_configs(tmp_path, keys, classes, dtype):
    record = labelled(tmp_path / "data", np.arange(4, dtype=dtype)[None].repeat(8, 1).repeat(8, 0))
    opt = options(imgSizes=(8,), imgMaxSize=32, random_flip=False, segm_downsampling_rate=8, **keys)
    item = TrainDataset(tmp_path / "data", record, opt)[0]
    assert item["seg_label"].flatten().tolist() == classes
    item = ValDataset(tmp_path / "data", record, opt)[0]
    assert item["seg_label"][0, 0, ::8].tolist() == classes


def test_more_than_255_classes_fit_16_bit_labels(tmp_path):
    record = labelled(tmp_path / "data", np.full((8, 8), 300, np.uint16))
    opt = options(num_class=300, imgSizes=(8,))
    assert (TrainDataset(tmp_path / "data", record, opt)[0]["seg_label"] == 299).any()
    with pytest.raises(UserError, match="holds the value 300, but with 299 classes"):
        TrainDataset(tmp_path / "data", record, options(num_class=299, imgSizes=(8,)))[0]


# Files that can't be used


def broken_copy(root, folder, broken):
    """A copy of the data whose images ``broken`` are cut off."""
    shutil.copytree(root, folder)
    for k in broken:
        file = folder / f"{k}.png"
        file.write_bytes(file.read_bytes()[:100])
    return folder


def test_skipping_puts_others_of_the_same_orientation_in_place_of_the_broken(root, tmp_path):
    whole = TrainDataset(root, root / "list.odgt", options(on_error="skip"), batch_per_gpu=2)
    folder = broken_copy(root, tmp_path / "copy", [1, 4])
    dataset = TrainDataset(folder, folder / "list.odgt", options(on_error="skip"), batch_per_gpu=2)
    messages = set()
    for index in range(40):
        item, wanted = dataset.sub_batch(index), whole.sub_batch(index)
        names, others = ([Path(file).name for file in x["info"]] for x in (item, wanted))
        messages.update(item["skipped"])
        for name, other in zip(names, others, strict=True):
            assert name not in ("1.png", "4.png")
            if other not in ("1.png", "4.png"):
                assert name == other
            else:
                portrait = {SIZES[int(x[0])][0] < SIZES[int(x[0])][1] for x in (name, other)}
                assert len(portrait) == 1
        assert bool(item["skipped"]) == bool({"1.png", "4.png"} & set(others))
        assert same(item, dataset.sub_batch(index))
    assert len(messages) == 2
    assert all("is truncated" in text and "See line" in text for text in messages)


def test_where_nothing_can_be_used_skipping_ends_with_the_error(root, tmp_path):
    folder = broken_copy(root, tmp_path / "copy", range(len(SIZES)))
    dataset = TrainDataset(folder, folder / "list.odgt", options(on_error="skip"))
    with pytest.raises(UserError, match="is truncated"):
        dataset.sub_batch(0)


def test_a_list_that_leads_out_of_its_root_is_refused(root):
    records = [{"fpath_img": "../../etc/passwd", "fpath_segm": "0_label.png", "width": 4, "height": 3}]
    for dataset in (TrainDataset, ValDataset):
        with pytest.raises(UserError, match=r"\.\./\.\./etc/passwd"):
            dataset(root, records, options())
