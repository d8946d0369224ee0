import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from band_files import tifffile, values_of, write_tiff
from PIL import Image

from mit_semseg.data.datasets import TestDataset as PredictionDataset
from mit_semseg.data.datasets import TrainDataset, ValDataset
from mit_semseg.data.label_coding import LabelCoding
from mit_semseg.data.labels import read_label
from mit_semseg.dataset_tools.check.decode import read_label as check_label
from mit_semseg.errors import UserError

SIZES = [(40, 32), (48, 40)]


def write_set(folder, bands, nodata=None, dtype="uint16"):
    """Images of SIZES, whose top left quarter has the value of ``nodata``; the options to read them with."""
    records = []
    for k, (width, height) in enumerate(SIZES):
        values = values_of(dtype, (height, width, bands), seed=k)
        if nodata is not None:
            values[: height // 2, : width // 2] = nodata
        write_tiff(folder / f"{k}.tif", values, "planar" if k else "deflate", nodata)
        Image.fromarray(np.full((height, width), 1 + k, np.uint8)).save(folder / f"{k}.png")
        record = {"fpath_img": f"{k}.tif", "fpath_segm": f"{k}.png", "width": width, "height": height}
        records.append(record)
    (folder / "list.odgt").write_text("".join(json.dumps(record) + "\n" for record in records))
    return SimpleNamespace(
        imgSizes=[32],
        imgMaxSize=64,
        padding_constant=8,
        segm_downsampling_rate=4,
        num_class=3,
        random_flip=True,
        channels=bands,
        mean=[30000.0] * bands,
        std=[9000.0] * bands,
        clip_low=[100.0] * bands,
        clip_high=[65000.0] * bands,
        crop_size=(24, 24),
        scale_range=(0.8, 1.2),
        crop_max_share=1.0,
        augment_strength=1.0,
        augment_parts=("light", "shadow", "blur", "noise", "jpeg", "cutout"),
    )


@pytest.mark.parametrize("bands", [1, 4, 12])
@pytest.mark.parametrize("augment", ["published", "crop", "photos"])
def test_training_items_have_all_bands_and_no_label_without_data(tmp_path, bands, augment):
    opt = write_set(tmp_path, bands, nodata=0)
    opt.augment = augment
    dataset = TrainDataset(tmp_path, str(tmp_path / "list.odgt"), opt, batch_per_gpu=2, seed=3)
    ignored = 0
    for index in range(4):
        item = dataset[index]
        assert item["img_data"].dtype == torch.float32
        assert item["img_data"].shape[:2] == (2, bands)
        assert item["img_data"].isfinite().all()
        assert set(item["seg_label"].unique().tolist()) <= {-1, 0, 1}
        ignored += int((item["seg_label"] == -1).sum())
        again = dataset.sub_batch(index)
        assert torch.equal(again["img_data"], item["img_data"])  # in all forms, the values are normalized
    assert ignored


def test_the_padding_is_0(tmp_path):
    opt = write_set(tmp_path, 5)
    opt.padding_constant = 64
    dataset = TrainDataset(tmp_path, str(tmp_path / "list.odgt"), opt, batch_per_gpu=1)
    item, ((width, height),) = dataset[0], dataset.sub_batch(0)["sizes"]
    assert item["img_data"].shape[2:] == (64, 64)
    assert not item["img_data"][0, :, height:].any()
    assert not item["img_data"][0, :, :, width:].any()
    assert item["img_data"][0, :, :height, :width].abs().min(0).values.min() > 0


def test_a_validation_item_at_the_size_of_the_file_by_hand(tmp_path):
    opt = write_set(tmp_path, 4, nodata=0)
    item = ValDataset(tmp_path, str(tmp_path / "list.odgt"), opt)[0]
    values = values_of("uint16", (32, 40, 4)).astype(np.float64)
    values[:16, :20] = 30000  # no data becomes the mean
    wanted = (values.clip(100, 65000) - 30000) / 9000
    np.testing.assert_allclose(item["img_data"][0][0].permute(1, 2, 0).numpy(), wanted, atol=1e-4)
    assert (item["seg_label"][0, :16, :20] == -1).all()
    assert (item["seg_label"][0, 16:] == 0).all()
    assert item["img_ori"].shape == (32, 40, 3)
    assert not item["img_ori"][:16, :20].any()


def test_a_prediction_item_says_where_there_is_no_data(tmp_path):
    opt = write_set(tmp_path, 4, nodata=0)
    hidden = PredictionDataset([str(tmp_path / "0.tif")], opt).as_bytes(0)["without_data"]
    assert hidden[:16, :20].all()
    assert hidden.sum() == 16 * 20


def test_errors_name_file_and_line(tmp_path):
    opt = write_set(tmp_path, 4)
    opt.bands = (1, 2, 3, 9)
    with pytest.raises(
        UserError, match=r"0\.tif has 4 bands, but DATASET.bands asks for band 9.*See line 1 of"
    ):
        ValDataset(tmp_path, str(tmp_path / "list.odgt"), opt)[0]


def test_a_label_of_another_size_is_refused(tmp_path):
    opt = write_set(tmp_path, 4)
    Image.fromarray(np.ones((8, 9), np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"0\.png is 9 x 8 pixels, but its image .*0\.tif is 40 x 32"):
        ValDataset(tmp_path, str(tmp_path / "list.odgt"), opt)[0]


def test_photos_are_untouched_by_the_keys_of_bands(tiny):
    opt = SimpleNamespace(imgSizes=[32], imgMaxSize=64, padding_constant=8, channels=3, bands=(), nodata=())
    item = ValDataset(tiny.folder, str(tiny.folder / "validation.odgt"), opt).as_bytes(0)
    assert item["img_data"][0].dtype == torch.uint8


@pytest.mark.parametrize(("nodata", "offset"), [(255, 1), (2, 1), (0, 0), (0, 1)])
def test_a_value_for_no_data_in_a_label_is_ignored(tmp_path, nodata, offset):
    values = np.array([[1, 2, nodata], [2, 1, 1]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, str(nodata), True)])
    coding = LabelCoding(3, offset=offset)
    wanted = np.where(values == nodata, 0, values - offset + 1)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif", coding), wanted)
    facts = check_label(str(tmp_path / "a.tif"))
    assert facts.nodata == nodata
    assert nodata not in facts.values


def test_other_values_of_such_a_label_are_still_judged(tmp_path):
    values = np.array([[1, 9, 255]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "255", True)])
    with pytest.raises(UserError, match=r"a\.tif holds the value 9"):
        read_label(tmp_path / "a.tif", LabelCoding(3))


def test_a_label_without_any_data_counts_nothing_and_trains_as_unlabelled(tmp_path):
    opt = write_set(tmp_path, bands=3)
    label = np.full((32, 40), 255, np.uint8)
    tifffile.imwrite(tmp_path / "empty.tif", label, extratags=[(42113, "s", 0, "255", True)])
    record = {"fpath_img": "0.tif", "fpath_segm": "empty.tif", "width": 40, "height": 32}
    dataset = TrainDataset(tmp_path, [record], opt)
    assert dataset.label_counts(0)["counts"].tolist() == [0, 0, 0]
    assert (dataset[0]["seg_label"] == -1).all()
