"""Where a trained model is loaded from, and what is said when it is not there."""

import re
import shutil
import warnings

import pytest
import torch

from mit_semseg.config import get_defaults, load_config
from mit_semseg.errors import UserError
from mit_semseg.inference.checkpoints import trained_weights
from mit_semseg.inference.load import find_classes, pick_device, read_config
from mit_semseg.models.weights.pretrained import PUBLISHED
from mit_semseg.runtime.log import capturing_log, setup_logger

PRESENT = torch.cuda.device_count()


# The checkpoint


def test_the_checkpoint_is_named_and_a_newer_one_without_its_decoder_too(trained, tmp_path):
    setup_logger()
    run = shutil.copytree(trained, tmp_path / "run")
    with capturing_log() as lines:
        trained_weights(read_config(run), "TEST")
    assert lines == [f"Checkpoint: {run / 'encoder_epoch_2.pth'} and decoder_epoch_2.pth"]

    (run / "decoder_epoch_2.pth").unlink()
    with capturing_log() as lines:
        trained_weights(read_config(run), "TEST")
    assert lines == [
        f"Using epoch 1: {run / 'encoder_epoch_2.pth'} has no decoder_epoch_2.pth beside it. "
        "Copy that too, to use this epoch.",
        f"Checkpoint: {run / 'encoder_epoch_1.pth'} and decoder_epoch_1.pth",
    ]

    (run / "encoder_epoch_1.pth").unlink()
    (run / "encoder_epoch_2.pth").unlink()
    with pytest.raises(UserError) as error:
        trained_weights(read_config(run), "TEST")
    assert str(error.value) == (
        f"{run} holds no complete checkpoint: {run / 'decoder_epoch_1.pth'} has no encoder_epoch_1.pth "
        "beside it. Copy that too, to use this epoch."
    )


# The config


def test_a_folder_becomes_the_configs_dir(trained, tmp_path):
    moved = shutil.copytree(trained, tmp_path / "moved")
    assert str(moved) == read_config(moved).DIR
    assert read_config(str(moved)).DATASET.num_class == 3


def test_the_config_file_of_a_moved_folder_points_to_the_folder(trained, tmp_path):
    moved = shutil.copytree(trained, tmp_path / "moved")
    file = moved / "config.yaml"
    file.write_text(file.read_text().replace(f"DIR: {trained}", "DIR: gone"))
    with pytest.raises(UserError) as caught:
        read_config(file)
    assert str(caught.value) == (
        f"{file} says that its checkpoints are in gone, which has none. There are some beside the config. "
        f"Pass that folder: {moved}."
    )


def test_a_shipped_config_by_its_name():
    assert read_config("camvid-resnet18dilated-c1").MODEL.arch_encoder == "resnet18dilated"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_folder_of_a_published_model_has_no_config_but_a_shipped_one(tmp_path, name):
    (tmp_path / name).mkdir()
    cfg = read_config(tmp_path / name)
    assert (cfg.DIR, cfg.DATASET.num_class) == (str(tmp_path / name), 150)
    assert name.startswith(f"ade20k-{cfg.MODEL.arch_encoder}")


def test_a_tree_is_copied_with_keys_of_the_callers_own():
    tree = get_defaults()
    tree.MINE = "x"
    cfg = read_config(tree)
    assert cfg == tree
    tree.DIR = "elsewhere"
    assert cfg.DIR != "elsewhere"


def test_a_tree_that_lacks_keys_or_holds_bad_values():
    tree = get_defaults()
    del tree.VAL["every"], tree["DIR"]
    with pytest.raises(
        UserError, match=r"^The config tree has no DIR, VAL\.every\. Start from mit_semseg\.config"
    ):
        read_config(tree)
    del tree["MODEL"]
    with pytest.raises(
        UserError, match=r"has no DIR, MODEL\.arch_encoder, MODEL\.arch_decoder, \.\.\.\. Start from"
    ):
        read_config(tree)
    tree = get_defaults()
    tree.DATASET.num_class = 1
    with pytest.raises(
        UserError, match=r"^DATASET\.num_class is 1, but must be an integer >= 2 and <= 65535\. To"
    ):
        read_config(tree)


def test_a_folder_without_a_config_says_what_to_do(tmp_path):
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no config.yaml, which train.py writes beside its checkpoints. Copy the config that "
        f"the model was trained with to {tmp_path / 'config.yaml'}, or pass a config file whose DIR is "
        f"{tmp_path}."
    )


def test_a_folder_of_runs_names_them(trained, tmp_path):
    for name in ("b", "a"):
        shutil.copytree(trained, tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is not a run's folder, but contains some. Name one: {tmp_path / 'a'}, {tmp_path / 'b'}."
    )


def test_a_checkpoint_or_nothing_in_place_of_a_folder(trained):
    with pytest.raises(
        UserError, match=r"encoder_epoch_2\.pth is a checkpoint\. Pass its folder, .*trained, and"
    ):
        read_config(trained / "encoder_epoch_2.pth")
    with pytest.raises(
        UserError, match=r"^ckpt/nothing does not exist\. The project ships: .*ade20k-hrnetv2"
    ):
        read_config("ckpt/nothing")
    with pytest.raises(UserError, match=r"^'' does not name a file"):
        read_config("")
    with pytest.raises(TypeError, match=r"^source is None, of type NoneType; it has to be a folder"):
        read_config(None)


# The classes


@pytest.fixture
def moved(own_tiny, trained, tmp_path):
    """A run's folder whose config names a class table that is gone."""
    folder = shutil.copytree(trained, tmp_path / "moved")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"classes: .*", "classes: /gone/names.csv", config))
    return folder


def test_a_class_table_that_is_gone_is_sought_beside_the_checkpoints(moved, own_tiny):
    shutil.copy(own_tiny.folder / "classes.csv", moved)
    assert find_classes(read_config(moved)).names == ("brick", "lawn", "pool")


def test_without_it_classes_are_numbered_and_a_warning_says_so(moved):
    with pytest.warns(
        UserWarning, match=r"^DATASET\.classes is /gone/names\.csv, which does not exist here"
    ) as caught:
        assert find_classes(read_config(moved)).names == ("class 1", "class 2", "class 3")
    assert f"Copy the file to {moved / 'classes.csv'}, or pass" in str(caught[0].message)


def test_of_150_classes_that_have_lost_their_names_none_gets_one_of_ade20k():
    cfg = load_config(None, ["DATASET.classes", "/gone.csv"])
    with pytest.warns(UserWarning, match="called class 1 to class 150"):
        assert find_classes(cfg).names[-1] == "class 150"


def test_a_config_without_a_table_means_what_it_says():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_classes(load_config(None, ["DATASET.num_class", "4"])).names[-1] == "class 4"
        assert find_classes(load_config(None)).names[0] == "wall"


def test_a_table_of_another_number_of_classes_is_refused(tiny, trained):
    cfg = load_config(str(tiny.config), ["DATASET.num_class", "4"])
    with pytest.raises(UserError, match=r"names 3 classes, but DATASET\.num_class is 4"):
        find_classes(cfg)


# The device


def test_the_cpu_by_name():
    assert pick_device("cpu") == pick_device(torch.device("cpu", 0)) == torch.device("cpu")


@pytest.mark.skipif(not PRESENT, reason="no GPU")
@pytest.mark.parametrize("device", [None, 0, "cuda", "cuda:0", torch.device("cuda")])
def test_the_first_gpu_by_any_name(device):
    assert pick_device(device) == torch.device("cuda", 0)


@pytest.mark.skipif(PRESENT > 0, reason="has a GPU")
def test_without_a_gpu_the_cpu_is_chosen():
    assert pick_device(None) == torch.device("cpu")


@pytest.mark.parametrize("device", [99, "cuda:99", torch.device("cuda", 99)])
def test_a_gpu_that_is_not_there(device):
    with pytest.raises(UserError, match=r", but this machine has .*\. Omit it, or pass 'cpu'\.$"):
        pick_device(device)


@pytest.mark.parametrize("device", ["gpu", "", "meta", "cuda:x", -1])
def test_a_text_or_number_that_is_no_device(device):
    with pytest.raises(ValueError, match=f"^device is {re.escape(repr(device))}, but takes 'cpu', 'cuda'"):
        pick_device(device)


@pytest.mark.parametrize("device", [1.0, True, ["cpu"]])
def test_a_device_of_another_type(device):
    with pytest.raises(TypeError, match=f"^device is {re.escape(repr(device))}, of type"):
        pick_device(device)
