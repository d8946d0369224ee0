"""From a config to the options of a training."""

import pickle
import sys

import pytest

from mit_semseg.config import load_config
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import train_dataset


def options(tiny, **keys):
    return train_options(load_config(str(tiny.config), tiny.overrides(**keys)))


def test_options_are_sent_to_processes_without_the_config_tree(tiny):
    whole = options(tiny, VAL__every=1, TRAIN__class_weights="enet", DATASET__augment="crop")
    data = pickle.dumps(whole)
    assert pickle.loads(data) == whole
    assert b"yacs" not in data


def test_an_augmentation_of_the_users_reads_keys_as_items_and_as_attributes(tiny, tmp_path, monkeypatch):
    (tmp_path / "keyed_augment.py").write_text(
        "from torchvision.transforms import v2\n"
        "def build(opt):\n"
        "    assert opt['imgSizes'] == opt.imgSizes and opt.get('none', 3) == 3 and 'num_class' in opt\n"
        "    assert not hasattr(opt, 'none')\n"
        "    return v2.RandomCrop(opt['crop_size'], pad_if_needed=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    whole = options(tiny, DATASET__augment="keyed_augment:build", DATASET__crop_size="(24, 16)")
    for sent in (whole, pickle.loads(pickle.dumps(whole))):
        assert train_dataset(sent)[0]["img_data"].shape[-2:] == (24, 16)


@pytest.mark.parametrize(
    ("keys", "encoder", "batch_norm"),
    [
        ({}, False, False),
        ({"TRAIN__freeze": "encoder"}, True, False),
        ({"TRAIN__freeze": "bn"}, False, True),
        ({"TRAIN__fix_bn": True}, False, True),
        ({"TRAIN__freeze": "encoder", "TRAIN__fix_bn": True}, True, True),
    ],
)
def test_frozen_parts_may_be_named_by_two_keys(tiny, keys, encoder, batch_norm):
    module = options(tiny, **keys).module
    assert (module.freeze_encoder, module.freeze_batch_norm) == (encoder, batch_norm)


def test_labels_have_the_decoders_stride_or_full_resolution(tiny):
    for name, stride in (("stride", 8), ("full", 1)):
        whole = options(tiny, TRAIN__label_resolution=name)
        assert whole.module.label_stride == whole.data.segm_downsampling_rate == stride
        assert whole.module.model.label_stride == 8


def test_without_validations_their_list_is_not_read(tiny):
    assert options(tiny).validation is None
    assert options(tiny).run.validation_list == ""
    scored = options(tiny, VAL__every=3, VAL__max_images=2, VAL__batch_size=4)
    assert (scored.validation.every, scored.validation.max_images, scored.validation.batch_size) == (3, 2, 4)
    assert scored.run.validation_list == str(tiny.folder / "validation.odgt")
