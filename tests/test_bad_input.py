"""Whatever a user gets wrong: exit code 2, one message that names it, no traceback, nothing half-written."""

import json
import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

LONG = "x" * 300


def tree(folder):
    """Every path below a folder with its size."""
    return {str(path): path.stat().st_size for path in sorted(folder.rglob("*"))} if folder.exists() else {}


def write_list(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def refused(call, tmp_path):
    """``refused("train", ..., says=[...])``: the command fails as it should, and leaves DIR as it was."""

    def run(command, *words, says, folder=None):
        folder = folder or tmp_path / "run"
        before = tree(folder)
        if command == "test":
            words = ("--gpu", "cpu", *words, "TEST.result", folder)
        else:
            words = ("--gpus", "cpu", *words)
        if "DIR" not in words:
            words = (*words, "DIR", folder)
        outcome = call(command, *words)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err
        assert outcome.err.endswith("\n")
        assert outcome.err.count("\n") == 1, outcome.err
        for text in says:
            assert str(text) in outcome.err
        assert tree(folder) == before
        return outcome.err

    return run


# The config


def test_a_config_that_does_not_exist_lists_those_that_the_project_ships(refused):
    refused("train", "--cfg", "nowhere.yaml", says=["nowhere.yaml does not exist", "ade20k-hrnetv2"])


@pytest.mark.parametrize("name", [".", "..", "/", "config"])
def test_a_folder_as_config(refused, name, tiny, monkeypatch):
    monkeypatch.chdir(tiny.folder)
    (tiny.folder / "config").mkdir(exist_ok=True)
    refused("train", "--cfg", name, says=[f"{name} is a folder, not a file."])


def test_an_empty_name_as_config(refused):
    refused("train", "--cfg", "", says=["'' does not name a file.", "The project ships"])


def test_a_name_that_is_too_long_as_config(refused):
    refused("train", "--cfg", "x" * 300, says=["xxx cannot be read: File name too long."])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"DATASET: [1, 2", ["is not a YAML file: line 1, column 15: "]),
        (b"TRAIN:\n\tseed: 1\n", ["is not a YAML file: line 2, column 1: ", "'\\t'"]),
        (b"a: b: c", ["is not a YAML file: line 1, column 5: "]),
        (b"\xff\xd8\xff\xe0 a photo", ["is not a YAML file: 'utf-8' codec can't decode"]),
        (b"DIR: 2024-13-45", ["is not a YAML file: month must be in 1..12"]),
        (b"TRAIN: !!python/object:os.system {}", ["is not a YAML file: line 1, column 8: "]),
        (b"- TRAIN\n- MODEL\n", ["is not a config: it holds list, not keys and values."]),
        (b"hello", ["is not a config: it holds str, not keys and values."]),
        (b"TRAIN: 5", ["TRAIN is a section, not a value. Its keys are batch_size_per_gpu, num_epoch"]),
        (b"DIR: {a: 1}", ["unknown key DIR.a."]),
        (b"1: 2", ["unknown key 1."]),
        (b"TRAIN: {lr_encoder: }", ["TRAIN.lr_encoder is None, but must be a number >= 0 and <= 1e+30."]),
        (b"TRAIN: {seed: 1.5}", ["TRAIN.seed is 1.5, but must be an integer >= 0."]),
        (b"TRAIN: {seed: true}", ["TRAIN.seed is True, but must be an integer >= 0."]),
        (b"MODEL: {pretrained: 1}", ["MODEL.pretrained is 1, but must be True or False."]),
        (b"MODEL: {arch_encoder: [1]}", ["MODEL.arch_encoder is [1], but must be the name of an encoder."]),
        (b'DIR: "a\\0b"', ["DIR is 'a\\x00b', but must be a folder."]),
        (b"DIR: 2024-01-02", ["DIR is datetime.date(2024, 1, 2), but must be a folder."]),
    ],
)
def test_a_config_file_that_is_none(refused, tmp_path, content, says):
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    refused("train", "--cfg", file, says=[file, *says])


@pytest.mark.parametrize("value", [".nan", ".inf", "-1", "-.inf"])
def test_a_number_out_of_its_limits_in_a_config_file(refused, tmp_path, value):
    file = tmp_path / "a.yaml"
    file.write_text(f"TRAIN: {{lr_encoder: {value}}}")
    refused("train", "--cfg", file, says=["TRAIN.lr_encoder is ", ", but must be a number >= 0"])


def test_all_unknown_keys_at_once_each_with_the_nearest_name(call, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("TRAIN: {lr_encodr: 1, Seed: 2}\nnum_class: 3\n")
    outcome = call("train", "--cfg", file, "Train.wurst", "1", "x", "1", "TRAIN.workers", "many")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"{file}: unknown key TRAIN.lr_encodr. Did you mean TRAIN.lr_encoder?",
        f"{file}: unknown key TRAIN.Seed. Did you mean TRAIN.seed?",
        f"{file}: unknown key num_class. Did you mean DATASET.num_class?",
        "unknown key Train.wurst. Did you mean TRAIN.workers?",
        "unknown key x.",
        "TRAIN.workers is 'many', but must be an integer >= -1, or auto.",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["TRAIN.lr_encoder", "abc"], "TRAIN.lr_encoder is 'abc', but must be a number >= 0 and <= 1e+30."),
        (["TRAIN.lr_encoder", "None"], "TRAIN.lr_encoder is 'None', but must be a number >= 0 and <= 1e+30."),
        (["TRAIN.lr_encoder", "nan"], "TRAIN.lr_encoder is 'nan', but must be a number >= 0 and <= 1e+30."),
        (
            ["TRAIN.lr_encoder", "1e999"],
            "TRAIN.lr_encoder is inf, but must be a number >= 0 and <= 1e+30, and finite.",
        ),
        (["TRAIN.lr_encoder", "-0.1"], "TRAIN.lr_encoder is -0.1, but must be a number >= 0 and <= 1e+30."),
        (
            ["TRAIN.lr_encoder", "{[]: 1}"],
            "TRAIN.lr_encoder is '{[]: 1}', but must be a number >= 0 and <= 1e+30.",
        ),
        (
            ["TRAIN.lr_encoder", "1or 2"],
            "TRAIN.lr_encoder is '1or 2', but must be a number >= 0 and <= 1e+30.",
        ),
        (["TRAIN.epoch_iters", "0"], "TRAIN.epoch_iters is 0, but must be an integer >= 1."),
        (
            ["TRAIN.epoch_iters", "9" * 30],
            f"TRAIN.epoch_iters is {'9' * 30}, but must be an integer >= 1, and <= 2147483647.",
        ),
        (
            ["TRAIN.seed", "9" * 30],
            f"TRAIN.seed is {'9' * 30}, but must be an integer >= 0, and <= 2147483647.",
        ),
        (["TRAIN.epoch_iters", "1e3"], "TRAIN.epoch_iters is '1e3', but must be an integer >= 1."),
        (["TRAIN.beta1", "1"], "TRAIN.beta1 is 1.0, but must be a number >= 0 and < 1."),
        (["TRAIN", "5"], "TRAIN is a section, not a value."),
        (
            ["DATASET.imgSizes", "()"],
            "DATASET.imgSizes is (), but must be one or more integers >= 1 and <= 65536.",
        ),
        (["DATASET.imgSizes", "(32, 0)"], "DATASET.imgSizes is (32, 0), but must be one or more integers"),
        (
            ["DATASET.imgSizes", "(32, 1.5)"],
            "DATASET.imgSizes is (32, 1.5), but must be one or more integers",
        ),
        (
            ["DATASET.imgSizes", "big"],
            "DATASET.imgSizes is 'big', but must be one or more integers >= 1 and <= 65536.",
        ),
        (["DATASET.num_class", "1"], "DATASET.num_class is 1, but must be an integer >= 2 and <= 65535."),
        (
            ["DATASET.padding_constant", "12"],
            "DATASET.padding_constant is 12, which is not a multiple of DATASET.segm_downsampling_rate 8. "
            "Set DATASET.padding_constant 16.",
        ),
        (
            ["MODEL.decoder_dim", "9000"],
            "MODEL.decoder_dim is 9000, but must be an integer >= 0 and <= 8192.",
        ),
        (["MODEL.weights_encoder", "no.pth"], "MODEL.weights_encoder: no.pth does not exist. There"),
        (["MODEL.weights_decoder", "/"], "MODEL.weights_decoder: / holds no weights."),
        (
            ["MODEL.weights_decoder", "package:efficientnet_lite0"],
            "but packages hold encoders only. Set MODEL",
        ),
        (["TRAIN.start_epoch", "2"], "TRAIN.start_epoch is 2, but the run ends at TRAIN.num_epoch 2."),
        (["TRAIN.start_epoch", "1"], "encoder_epoch_1.pth does not exist. Set an epoch that does, or 0."),
        (["VAL.batch_size", "0"], "VAL.batch_size is 0, but must be an integer >= 1."),
        (["TEST.batch_size", "2"], "TEST.batch_size is 2, but must be 1."),
        (
            ["MODEL.arch_encoder", "resnet51"],
            "MODEL.arch_encoder is 'resnet51', which is not a known encoder. Did you",
        ),
        (
            ["MODEL.arch_decoder", "ppn"],
            "MODEL.arch_decoder is 'ppn', which is not a known decoder. Did you mean ppm?",
        ),
        (
            ["TRAIN.optim", "sgdd"],
            "TRAIN.optim is 'sgdd', which is not an optimizer. Did you mean SGD? The optimizers are",
        ),
        (["TRAIN.optim", "LBFGS"], "TRAIN.optim is 'LBFGS', which computes the loss several times a step."),
        (
            ["TRAIN.optim", "Rprop"],
            "TRAIN.weight_decay is 0.0001, but TRAIN.optim Rprop does not use it. Set it to 0.",
        ),
        (["TRAIN.loss", "dise"], "TRAIN.loss is 'dise', but has no loss dise. Did you mean dice? The losses"),
        (
            ["TRAIN.loss", "dice", "TRAIN.label_smoothing", "0.1"],
            "TRAIN.label_smoothing is 0.1, but TRAIN.loss dice does not use it. Set it to 0, or add",
        ),
        (
            ["TRAIN.loss", "dice+lovasz", "TRAIN.class_weights", "enet"],
            "TRAIN.class_weights is enet, but TRAIN.loss dice+lovasz weighs all classes alike. Leave it",
        ),
        (["TRAIN.class_weights", "[1, 2]"], "has 2 numbers, but DATASET.num_class is 3. Give one for each"),
        (
            ["TRAIN.class_weights", "median"],
            "is 'median', but must be median_frequency, enet, empty, or a list",
        ),
        (["TRAIN.class_weights", "[0, 0, 0]"], "or a list of numbers >= 0 that are not all 0, such as"),
        (["TRAIN.class_weights", "[1, -1, 2]"], "or a list of numbers >= 0 that are not all 0, such as"),
        (["TRAIN.enet_constant", "1.0"], "TRAIN.enet_constant is 1.0, but must be a number > 1."),
        (["TRAIN.ohem_min_kept", "1.5"], "TRAIN.ohem_min_kept is 1.5, but must be a number >= 0 and <= 1."),
        (["TRAIN.ohem_threshold", "0"], "TRAIN.ohem_threshold is 0.0, but must be a number > 0 and <= 1."),
        (["TRAIN.ema_decay", "1"], "TRAIN.ema_decay is 1.0, but must be a number >= 0 and < 1."),
        (["TRAIN.accumulate", "0"], "TRAIN.accumulate is 0, but must be an integer >= 1 and <= 65536."),
        (["TRAIN.clip_grad_norm", "-1"], "TRAIN.clip_grad_norm is -1.0, but must be a number >= 0."),
        (["TRAIN.label_resolution", "half"], "is 'half', but must be stride or full."),
        (
            ["TRAIN.lr_schedule", "exp"],
            "TRAIN.lr_schedule is 'exp', but must be poly, cosine, step or constant.",
        ),
        (
            ["TRAIN.lr_schedule", "step"],
            "is step, but TRAIN.lr_milestones is empty. Set it to the epochs after which",
        ),
        (
            ["TRAIN.lr_schedule", "step", "TRAIN.lr_milestones", "(1, 2)"],
            "TRAIN.lr_milestones contains 2, but the run ends at TRAIN.num_epoch 2. Remove it, or set",
        ),
        (
            ["TRAIN.lr_milestones", "(1,)"],
            "is (1,), but TRAIN.lr_schedule is poly. Set TRAIN.lr_schedule step, or remove",
        ),
        (["TRAIN.lr_milestones", "(0,)"], "TRAIN.lr_milestones is (0,), but must be a list of numbers > 0."),
        (
            ["TRAIN.lr_min", "0.001"],
            "TRAIN.lr_min is 0.001, but TRAIN.lr_schedule is poly. Set TRAIN.lr_schedule cosine, or TRAIN.",
        ),
        (
            ["TRAIN.lr_schedule", "cosine", "TRAIN.lr_min", "0.01", "TRAIN.lr_decoder", "0.001"],
            "TRAIN.lr_min is 0.01, but TRAIN.lr_decoder is 0.001. Set TRAIN.lr_min lower.",
        ),
        (
            ["TRAIN.warmup_iters", "4"],
            "TRAIN.warmup_iters is 4, but the run has only 4 iterations. Set TRAIN.",
        ),
        (
            ["MODEL.fc_dim", "2048"],
            "MODEL.fc_dim is 2048, but mobilenetv2dilated ends with 320 channels. Set",
        ),
        (["DATASET.segm_downsampling_rate", "4"], "c1 on mobilenetv2dilated predicts at stride 8. Set"),
        (["MODEL.arch_encoder", "hrnetv2", "MODEL.arch_decoder", "c1_deepsup"], "c1_deepsup needs 2 feature"),
        (
            ["MODEL.arch_decoder", "ppm", "TRAIN.batch_size_per_gpu", "1"],
            "is 1, but ppm pools an image to one value per channel, and BatchNorm needs 2. Set TRAIN.batch",
        ),
    ],
)
def test_an_override_that_makes_no_sense(refused, tiny, words, says):
    refused("train", "--cfg", tiny.config, *words, says=[says])


def test_an_odd_number_of_overrides(call, tiny):
    outcome = call("train", "--cfg", tiny.config, "TRAIN.seed", "1", "DIR")
    assert outcome.code == 2
    assert outcome.err == (
        "Config overrides come in pairs, KEY VALUE, but 3 words were given: TRAIN.seed 1 DIR\n"
    )


def test_a_config_without_its_option(call, tiny):
    outcome = call("train", tiny.config)
    assert outcome.code == 2
    assert outcome.err == (
        f"Config overrides come in pairs, KEY VALUE, but 1 word was given: {tiny.config}. To name a config "
        f"or a model, write --cfg {tiny.config}\n"
    )


def test_a_number_that_yaml_or_the_command_line_writes_in_another_way_is_fine(call, tiny, tmp_path):
    folder = tmp_path / "run"
    words = tiny.overrides(TRAIN__lr_encoder=1, TRAIN__lr_decoder="1e-3", DATASET__imgSizes=32, DIR=folder)
    assert call("train", "--gpus", "cpu", "--cfg", tiny.config, "TRAIN.num_epoch", 1, *words).code == 0


# Devices


@pytest.mark.skipif(torch.cuda.device_count() > 4, reason="has a GPU 4")
@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_gpu_that_is_not_there(call, tiny, command, tmp_path):
    outcome = call(command, "--gpus", "4", "--cfg", tiny.config, "DIR", tmp_path / "run")
    assert outcome.code == 2
    assert outcome.err.startswith("'4' names gpu4, but this machine has")
    assert "pass cpu" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "gpu", "x", "0-", "1.5", "-1", "0;1", "9" * 20, "0-99999"])
def test_a_text_that_names_no_device(call, tiny, text):
    outcome = call("train", f"--gpus={text}", "--cfg", tiny.config)
    assert outcome.code == 2
    assert outcome.err == (
        f"'{text}' names no devices. Write GPU numbers such as 0-3, 0,2 or gpu1, or cpu.\n"
    )


# Lists


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_list_that_is_missing_empty_or_a_folder(refused, tiny, tmp_path, command):
    key = {"train": "DATASET.list_train", "eval": "DATASET.list_val"}[command]
    empty = write_list(tmp_path / "empty.odgt", [])
    refused(command, "--cfg", tiny.config, key, "no.odgt", says=["no.odgt does not exist."])
    refused(command, "--cfg", tiny.config, key, empty, says=[f"{empty} is empty."])
    refused(command, "--cfg", tiny.config, key, tmp_path, says=[f"{tmp_path} cannot be read: Is a directory"])


def test_a_list_with_bad_lines_names_them_and_counts_all(refused, tiny, tmp_path):
    file = tmp_path / "bad.odgt"
    good = json.dumps(tiny.records("training")[0])
    file.write_text(f'{good}\n{{"fpath_img": "a"}}\nnot json\n[]\n{good}\n{good[:-9]}\n')
    message = refused("train", "--cfg", tiny.config, "DATASET.list_train", file, says=[file])
    assert "4 of 6 lines unusable: line 2 has no" in message
    assert "line 3 is not JSON" in message
    assert "and 1 more" in message


def test_a_class_file_of_another_number_of_classes_is_refused_by_all_three(refused, tiny, trained):
    says = ["classes.csv names 3 classes, but DATASET.num_class is 4."]
    for command in ("train", "eval", "test"):
        images = ("--imgs", tiny.folder / "validation") if command == "test" else ()
        refused(command, *images, "--cfg", tiny.config, "DATASET.num_class", 4, says=says)


def test_a_class_file_that_is_missing(refused, tiny):
    refused("train", "--cfg", tiny.config, "DATASET.classes", "no.csv", says=["no.csv does not exist."])


# Images and labels


def damage(own_tiny, name, record=0):
    """The image or label of a record, for a test to damage, in a list that has it alone."""
    chosen = own_tiny.records("training")[record]
    for file in ("training.odgt", "validation.odgt"):
        write_list(own_tiny.folder / file, [chosen])
    return own_tiny.folder / chosen[name]


@pytest.mark.parametrize("command", ["train", "eval"])
@pytest.mark.parametrize("name", ["fpath_img", "fpath_segm"])
@pytest.mark.parametrize("what", ["missing", "empty", "truncated", "text", "folder"])
def test_a_damaged_file_is_named_with_its_line(refused, own_tiny, trained, tmp_path, command, name, what):
    file = damage(own_tiny, name)
    content = file.read_bytes()
    file.unlink()
    if what == "folder":
        file.mkdir()
    elif what != "missing":
        file.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}[what])
    folder = trained if command == "eval" else None
    message = {
        "missing": "does not exist",
        "empty": "is empty",
        "truncated": "is truncated",
        "text": "is not an image",
        "folder": "cannot be read: Is a directory",
    }[what]
    lists = {"train": "training.odgt", "eval": "validation.odgt"}
    place = f"line 1 of {own_tiny.folder / lists[command]}"
    refused(command, "--cfg", own_tiny.config, says=[file, message, place], folder=folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_reports_a_damaged_file_as_plainly(refused, own_tiny, workers):
    file = damage(own_tiny, "fpath_img")
    file.write_bytes(b"")
    refused("train", "--cfg", own_tiny.config, "TRAIN.workers", workers, says=[f"{file} is empty"])


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_label_of_another_size_value_or_mode(refused, own_tiny, trained, command):
    file = damage(own_tiny, "fpath_segm")
    label = np.array(Image.open(file))
    folder = trained if command == "eval" else None

    def says(values, *texts):
        Image.fromarray(values).save(file)
        refused(command, "--cfg", own_tiny.config, says=[file, *texts], folder=folder)

    says(label[:, :-1].copy(), "is 47 x 36 pixels, but its image", "is 48 x 36.")
    says(np.where(label == 3, 77, label), "hold 77, but with 3 classes they go from 1 to 3; the first is ")
    says(np.where(label == 0, 255, label), "If 255 stands for unlabelled, set DATASET.ignore_label 255.")
    says(
        np.repeat(label[..., None], 3, 2), "is a label of mode RGB with three equal channels", "--one-channel"
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_a_tiny_image_is_no_mistake(call, own_tiny, trained, tmp_path, size):
    record = {"fpath_img": "a.png", "fpath_segm": "b.png", "width": size[0], "height": size[1]}
    Image.new("RGB", size, (200, 60, 40)).save(own_tiny.folder / "a.png")
    Image.new("L", size, 1).save(own_tiny.folder / "b.png")
    for file in ("training.odgt", "validation.odgt"):
        write_list(own_tiny.folder / file, [record])
    words = ("--cfg", own_tiny.config, "TRAIN.epoch_iters", 1, "TRAIN.num_epoch", 1)
    assert call("train", "--gpus", "cpu", *words, "DIR", tmp_path / "run").code == 0
    asked = ("VAL.boundary_iou", True, "VAL.calibration", True, "VAL.batch_size", 2)
    assert call("eval", "--gpus", "cpu", *words, *asked, "DIR", trained).code == 0
    images = ("--imgs", own_tiny.folder / "a.png")
    assert call("test", *images, "--gpu", "cpu", *words, "DIR", trained, "TEST.result", tmp_path).code == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * size[0], size[1])


def test_a_batch_larger_than_the_list_is_no_mistake(call, own_tiny, tmp_path):
    damage(own_tiny, "fpath_img")  # a list with one record
    words = ("--cfg", own_tiny.config, "TRAIN.batch_size_per_gpu", 5, "TRAIN.num_epoch", 1)
    assert call("train", "--gpus", "cpu", *words, "DIR", tmp_path / "run").code == 0


# What to segment


def test_images_that_are_not_there(refused, tiny, trained, tmp_path):
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "notes.txt").write_text("no image")
    words = ("--cfg", tiny.config, "DIR", trained)
    refused("test", "--imgs", "no.jpg", *words, says=["no.jpg does not exist. Name an image or a folder"])
    refused("test", "--imgs", tmp_path / "hollow", *words, says=[f"No image in {tmp_path / 'hollow'}."])
    refused("test", "--imgs", "*.jpg", *words, says=["No image or video matches *.jpg."])


def test_no_images_named(call, tiny):
    outcome = call("test", "--cfg", tiny.config)
    assert outcome.code == 2
    assert "--imgs" in outcome.err


def test_a_damaged_photo_leaves_no_folder_behind(call, tiny, trained, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    outcome = call(
        *("test", "--imgs", tmp_path / "a.jpg", "--gpu", "cpu", "--cfg", tiny.config, "DIR", trained),
        *("TEST.result", tmp_path / "results"),
    )
    assert outcome.code == 1
    assert outcome.err == f"{tmp_path / 'a.jpg'} is empty.\n1 of 1 images could not be segmented.\n"
    assert not (tmp_path / "results").exists()


def test_the_good_photos_are_segmented_beside_a_damaged_one(call, tiny, trained, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(tiny.folder / "validation" / "0.jpg", photos / "good.jpg")
    (photos / "bad.jpg").write_bytes((photos / "good.jpg").read_bytes()[:300])
    outcome = call(
        *("test", "--imgs", photos, "--gpu", "cpu", "--cfg", tiny.config, "DIR", trained),
        *("TEST.result", tmp_path / "results"),
    )
    assert outcome.code == 1
    assert f"{photos / 'bad.jpg'} is truncated" in outcome.err
    assert "1 of 2 images could not be segmented." in outcome.err
    assert [path.name for path in (tmp_path / "results").glob("*.png")] == ["good.png"]


# Checkpoints


def test_no_checkpoint(refused, tiny, tmp_path):
    refused("eval", "--cfg", tiny.config, says=[f"{tmp_path / 'run'} holds no checkpoint. Train one with"])
    (tmp_path / "file").write_text("")
    refused("eval", "--cfg", tiny.config, "DIR", tmp_path / "file", says=["file holds no checkpoint."])


def test_a_checkpoint_of_an_epoch_that_is_not_there(refused, tiny, trained):
    refused(
        *("eval", "--cfg", tiny.config, "VAL.checkpoint", "epoch_9.pth"),
        folder=trained,
        says=["encoder_epoch_9.pth does not exist. The newest there is epoch_2.pth. Set VAL.checkpoint, or"],
    )


def test_a_checkpoint_of_other_classes(refused, tiny, trained, tmp_path):
    words = ("--cfg", tiny.config, "DATASET.num_class", 5, "DATASET.classes", "")
    says = [trained / "decoder_epoch_2.pth", "It was trained with 3 classes, this model has 5."]
    refused("eval", *words, folder=trained, says=says)
    refused("test", "--imgs", tiny.folder / "validation", *words, "DIR", trained, says=says)
    refused("train", *words, "MODEL.weights_decoder", trained / "decoder_epoch_2.pth", says=says)
    resume = ("TRAIN.start_epoch", 2, "TRAIN.num_epoch", 3)
    refused("train", *words, *resume, folder=trained, says=says)


def test_a_checkpoint_of_another_architecture(refused, tiny, trained):
    words = ("--cfg", tiny.config, "MODEL.arch_encoder", "resnet18dilated", "MODEL.fc_dim", 512)
    says = [
        "encoder_epoch_2.pth does not fit encoder 'resnet18dilated'",
        "weights missing (first: ",
        "unknown",
    ]
    refused("eval", *words, folder=trained, says=says)
    refused("train", *words, "MODEL.weights_encoder", trained / "encoder_epoch_2.pth", says=says)


def test_weights_that_do_not_fit_are_told_before_labels_are_counted(refused, tiny, trained):
    words = ("--cfg", tiny.config, "MODEL.weights_decoder", trained / "encoder_epoch_2.pth")
    without = refused("train", *words, says=["Set MODEL.arch_decoder, decoder_dim and decoder_norm as in"])
    assert refused("train", *words, "TRAIN.class_weights", "enet", says=[]) == without


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page, not a checkpoint"),
        (None, "is truncated"),
        (b"hello", "is not a PyTorch checkpoint"),
    ],
)
def test_a_damaged_checkpoint(refused, tiny, trained, tmp_path, content, says):
    run = shutil.copytree(trained, tmp_path / "damaged")
    file = run / "decoder_epoch_2.pth"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    refused("eval", "--cfg", tiny.config, "VAL.visualize", True, folder=run, says=[file, says])
    images = ("--imgs", tiny.folder / "validation")
    refused("test", *images, "--cfg", tiny.config, "DIR", run, says=[file, says])
    resume = ("TRAIN.start_epoch", 2, "TRAIN.num_epoch", 3)
    refused("train", "--cfg", tiny.config, *resume, folder=run, says=[file, says])


@pytest.mark.parametrize("name", ["state.pth", "history_epoch_2.pth"])
@pytest.mark.parametrize("content", [b"<html>", [1, 2], {"train": 1}, {"name": "SGD"}])
def test_a_damaged_state_or_history_stops_a_resume(refused, tiny, trained, tmp_path, name, content):
    run = shutil.copytree(trained, tmp_path / "damaged")
    file = run / name
    if name != "state.pth":
        (run / "state.pth").unlink()  # it holds the history, too
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    resume = ("TRAIN.start_epoch", 2, "TRAIN.num_epoch", 3)
    refused("train", "--cfg", tiny.config, *resume, folder=run, says=[file])


def test_a_state_of_another_optimizer_or_model(refused, tiny, trained):
    resume = ("TRAIN.start_epoch", 2, "TRAIN.num_epoch", 3)
    refused(
        *("train", "--cfg", tiny.config, *resume, "TRAIN.optim", "AdamW"),
        folder=trained,
        says=[
            "state.pth cannot be resumed with this config: TRAIN.optim was SGD, is AdamW. Set back what has"
        ],
    )
    refused(
        *("train", "--cfg", tiny.config, *resume, "TRAIN.fix_bn", True),
        folder=trained,
        says=[
            "state.pth cannot be resumed with this config: TRAIN.fix_bn was False, is True. Set back what has"
        ],
    )


# Where to write


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_place_of_the_output_folder(refused, tiny, trained, tmp_path, below):
    (tmp_path / "taken").write_text("mine")
    target = tmp_path / "taken" / below
    refused("train", "--cfg", tiny.config, folder=target, says=[f"{target} can't be written into", "Set DIR"])
    images = ("--imgs", tiny.folder / "validation", "--cfg", tiny.config, "DIR", trained)
    refused("test", *images, folder=target, says=[f"{target} can't be written into", "Set TEST.result"])
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("target", ["/proc/run", "/dev/full/run"])
def test_a_folder_that_no_one_can_make(call, tiny, target):
    outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", target)
    assert outcome.code == 2
    assert f"{target} can't be written into" in outcome.err
    assert outcome.err.count("\n") == 1


@contextmanager
def full_disk(room):
    """No file can grow beyond ``room`` bytes, which a program meets as it meets a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_noticed_before_the_training_begins(refused, tiny):
    with full_disk(room=1000):
        message = refused("train", "--cfg", tiny.config, says=["can't be written into", "Set DIR"])
    assert "iteration" not in message


def test_a_disk_that_fills_up_leaves_no_half_checkpoint(call, tiny, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = tree(run)
    with full_disk(room=100_000):
        outcome = call(
            *("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", run),
            *("TRAIN.start_epoch", 2, "TRAIN.num_epoch", 3),
        )
    assert outcome.code == 2
    assert outcome.err.startswith(f"{run / 'encoder_epoch_3.pth'} cannot be written: File too large.")
    assert "Make room there" in outcome.err
    after = tree(run)
    new = {path for path in after.keys() - before.keys() if "tensorboard" not in path}
    assert new == {str(run / "history_epoch_3.pth")}  # which is small enough
    assert after[str(run / "state.pth")] == before[str(run / "state.pth")]
    assert call("eval", "--gpus", "cpu", "--cfg", tiny.config, "DIR", run).code == 0


def test_a_disk_that_fills_up_leaves_no_half_picture(call, tiny, trained, tmp_path):
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    with full_disk(room=10_000):
        outcome = call(
            *("test", "--imgs", tmp_path / "a.png", "--gpu", "cpu", "--cfg", tiny.config, "DIR", trained),
            *("TEST.result", tmp_path / "out"),
        )
    assert outcome.code == 2
    assert outcome.err.startswith(f"{tmp_path / 'out' / 'a.png'} cannot be written: File too large.")
    assert tree(tmp_path / "out") == {}


# A path that the system refuses even to look at, as it does below a folder of somebody else's


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["DIR", LONG, "TRAIN.start_epoch", 1]),
        ("train", ["DATASET.list_train", LONG]),
        ("train", ["DATASET.classes", LONG]),
        ("train", ["MODEL.weights_encoder", LONG]),
        ("eval", ["DIR", LONG]),
        ("eval", ["VAL.checkpoint", LONG]),
        ("eval", ["DATASET.root_dataset", LONG]),
        ("test", ["TEST.checkpoint", LONG]),
        ("test", ["TEST.result", LONG]),
    ],
)
def test_a_path_that_the_system_refuses(call, tiny, trained, tmp_path, command, words):
    folder = tmp_path / "run" if command == "train" else trained
    first = ("--imgs", tiny.folder / "validation", "--gpu") if command == "test" else ("--gpus",)
    outcome = call(command, *first, "cpu", "--cfg", tiny.config, "DIR", folder, *words)
    assert outcome.code == 2
    assert LONG in outcome.err
    assert "File name too long" in outcome.err or "holds no checkpoint" in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_image_that_the_system_refuses(call, tiny, trained):
    outcome = call("test", "--imgs", LONG, "--gpu", "cpu", "--cfg", tiny.config, "DIR", trained)
    assert (outcome.code, outcome.err) == (2, f"{LONG} can't be used: File name too long.\n")


@pytest.mark.parametrize("command", ["test", "eval", "train"])
def test_weights_that_are_not_finite_are_refused_before_they_score_or_train(
    call, tiny, trained, tmp_path, command
):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    file = folder / "decoder_epoch_2.pth"
    weights = torch.load(file, weights_only=True)
    weights["cbr.1.running_mean"][:3] = float("nan")
    torch.save(weights, file)
    words = {
        "test": [
            "--imgs",
            tiny.folder / "training" / "0.jpg",
            "DIR",
            folder,
            "TEST.result",
            tmp_path / "out",
        ],
        "eval": ["DIR", folder],
        "train": ["DIR", tmp_path / "new", "MODEL.weights_decoder", file],
    }[command]
    outcome = call(command, "--gpu" if command == "test" else "--gpus", "cpu", "--cfg", tiny.config, *words)
    assert outcome.code == 2
    assert outcome.err.startswith(f"{file}: cbr.1.running_mean holds NaN (3 of 80 values). ")
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "new").exists()


# Through the scripts themselves


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("train.py", ["--cfg", "nowhere.yaml"], "nowhere.yaml does not exist."),
        ("eval_multipro.py", ["--gpus", "cpu", "DATASET.list_val", "no.odgt"], "no.odgt does not exist."),
        ("test.py", ["--gpu", "cpu", "--imgs", "no.jpg"], "no.jpg does not exist."),
    ],
)
def test_the_scripts_end_with_code_2_and_one_message(script, tmp_path, name, words, says):
    outcome = script(name, *words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith(says)
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_config_is_not_an_exported_model(call, tiny):
    refused = call("eval", "--cfg", tiny.config, "MODEL.exported", tiny.config)
    assert (refused.code, refused.out) == (2, "")
    assert "is not an exported model: its name must end with .onnx, .xml, .pt2." in refused.err


def test_an_image_path_without_a_name_ends_in_a_message(call, own_tiny, trained):
    records = own_tiny.records("validation")
    records[0]["fpath_img"] = "/"
    (own_tiny.folder / "validation.odgt").write_text("".join(json.dumps(record) + "\n" for record in records))
    refused = call("eval", "--gpus", "cpu", "--cfg", own_tiny.config, "DIR", trained, "VAL.visualize", "True")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
