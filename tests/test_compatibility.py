"""What code written for the package's predecessor relies on: names, signatures, behaviour."""

import importlib
import inspect
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from yacs.config import CfgNode

from mit_semseg.config import cfg, get_defaults, load_config
from mit_semseg.dataset import TestDataset, TrainDataset, ValDataset
from mit_semseg.lib.nn import UserScatteredDataParallel, async_copy_to, user_scattered_collate
from mit_semseg.lib.utils import as_numpy
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.weights.checkpoint import epoch_path
from mit_semseg.utils import (
    AverageMeter,
    accuracy,
    colorEncode,
    find_recursive,
    intersectionAndUnion,
    parse_devices,
    setup_logger,
    unique,
)

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))

NAMES = {
    "mit_semseg.config": "cfg",
    "mit_semseg.models": "ModelBuilder SegmentationModule models resnet mobilenet hrnet",
    "mit_semseg.models.models": "ModelBuilder SegmentationModule Resnet ResnetDilated MobileNetV2Dilated",
    "mit_semseg.models.resnet": "resnet18 resnet50 resnet101",
    "mit_semseg.models.mobilenet": "mobilenetv2",
    "mit_semseg.models.hrnet": "hrnetv2",
    "mit_semseg.dataset": "TrainDataset ValDataset TestDataset",
    "mit_semseg.utils": "colorEncode find_recursive setup_logger unique AverageMeter accuracy "
    "intersectionAndUnion parse_devices",
    "mit_semseg.lib.nn": "SynchronizedBatchNorm1d SynchronizedBatchNorm2d SynchronizedBatchNorm3d "
    "DataParallelWithCallback patch_replication_callback UserScatteredDataParallel user_scattered_collate "
    "async_copy_to convert_model",
    "mit_semseg.lib.utils": "as_numpy as_variable mark_volatile",
}

# Names, order and defaults of the parameters; what has been added behind them is not listed.
SIGNATURES = {
    "mit_semseg.models.ModelBuilder.build_encoder": "arch='resnet50dilated', fc_dim=512, weights=''",
    "mit_semseg.models.ModelBuilder.build_decoder": (
        "arch='ppm_deepsup', fc_dim=512, num_class=150, weights='', use_softmax=False"
    ),
    "mit_semseg.models.ModelBuilder.weights_init": "m",
    "mit_semseg.models.SegmentationModule": "net_enc, net_dec, crit, deep_sup_scale=None",
    "mit_semseg.models.SegmentationModule.forward": "self, feed_dict, *, segSize=None",
    "mit_semseg.models.SegmentationModule.pixel_acc": "self, pred, label",
    "mit_semseg.models.models.Resnet.forward": "self, x, return_feature_maps=False",
    "mit_semseg.models.models.Resnet": "orig_resnet",
    "mit_semseg.models.models.ResnetDilated": "orig_resnet, dilate_scale=8",
    "mit_semseg.models.models.MobileNetV2Dilated": "orig_net, dilate_scale=8",
    "mit_semseg.models.models.MobileNetV2Dilated.forward": "self, x, return_feature_maps=False",
    "mit_semseg.models.hrnet.HRNetV2.forward": "self, x, return_feature_maps=False",
    "mit_semseg.models.decoders.base.Decoder.forward": "self, conv_out, segSize=None",
    "mit_semseg.dataset.TrainDataset": "root_dataset, odgt, opt, batch_per_gpu=1",
    "mit_semseg.dataset.ValDataset": "root_dataset, odgt, opt",
    "mit_semseg.dataset.TestDataset": "odgt, opt",
    "mit_semseg.lib.nn.async_copy_to": "obj, dev, main_stream=None",
    "mit_semseg.lib.nn.user_scattered_collate": "batch",
    "mit_semseg.lib.utils.as_numpy": "obj",
    "mit_semseg.utils.colorEncode": "labelmap, colors, mode='RGB'",
    "mit_semseg.utils.accuracy": "preds, label",
    "mit_semseg.utils.intersectionAndUnion": "imPred, imLab, numClass",
    "mit_semseg.utils.find_recursive": "root_dir, ext='.jpg'",
    "mit_semseg.utils.parse_devices": "input_devices",
    "mit_semseg.utils.setup_logger": "distributed_rank=0, filename='log.txt'",
    "mit_semseg.utils.AverageMeter.update": "self, val, weight=1",
}


def find(dotted):
    """The object of a name such as ``mit_semseg.models.ModelBuilder.build_encoder``."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"{dotted} is not there")


def described(function):
    """The parameters as they are written in a definition, without annotations."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(parameters))[1:-1]


# Names and signatures


@pytest.mark.parametrize(
    ("module", "name"), [(m, name) for m, names in NAMES.items() for name in names.split()]
)
def test_every_name_is_where_it_was(module, name):
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize("dotted", SIGNATURES)
def test_parameters_have_their_names_order_and_defaults(dotted):
    shown = described(find(dotted))
    assert f"{shown}, ".startswith(f"{SIGNATURES[dotted]}, ")


def test_a_parameter_of_another_name_would_be_noticed():
    def build_encoder(architecture="resnet50dilated", fc_dim=512, weights=""):
        pass

    wanted = SIGNATURES["mit_semseg.models.ModelBuilder.build_encoder"]
    assert not described(build_encoder).startswith(wanted)


# Config


def test_the_config_is_a_tree_that_callers_change():
    own = cfg.clone()
    assert isinstance(own, CfgNode)
    assert not own.is_frozen()
    own.merge_from_list(["TRAIN.lr_encoder", 0.5, "DATASET.imgSizes", "(300, 400)", "DIR", "ckpt/x"])
    own.MODEL.extra = "mine"
    own.TRAIN.num_epoch = 3
    own.TRAIN.running_lr_encoder = own.TRAIN.lr_encoder
    assert (own.TRAIN.lr_encoder, own.DATASET.imgSizes, own.DIR) == (0.5, (300, 400), "ckpt/x")
    assert cfg == get_defaults()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_merges_into_the_tree_and_is_plain_yaml(file):
    own = cfg.clone()
    own.merge_from_file(str(file))
    tree = yaml.safe_load(file.read_text())
    assert own.MODEL.arch_encoder == tree["MODEL"]["arch_encoder"]
    assert tree["DIR"] == own.DIR
    assert tree["DIR"].startswith("ckpt/")


# Models


def test_a_model_is_built_and_asked_as_in_old_notebooks(tmp_path):
    # The published example: build from checkpoints, one normalized image, arg max over classes.
    torch.manual_seed(0)
    for part, net in (
        ("encoder", ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)),
        ("decoder", ModelBuilder.build_decoder("c1_deepsup", 320, 150)),
    ):
        torch.save(net.state_dict(), epoch_path(tmp_path, part, 20))
    builder = ModelBuilder()
    net_encoder = builder.build_encoder(
        arch="mobilenetv2dilated", fc_dim=320, weights=f"{tmp_path}/encoder_epoch_20.pth"
    )
    net_decoder = builder.build_decoder(
        arch="c1_deepsup",
        fc_dim=320,
        num_class=150,
        weights=f"{tmp_path}/decoder_epoch_20.pth",
        use_softmax=True,
    )
    module = SegmentationModule(net_encoder, net_decoder, torch.nn.NLLLoss(ignore_index=-1))
    module.eval()
    img = torch.randn(3, 41, 57)
    with torch.no_grad():
        scores = module({"img_data": img[None], "name": "a.jpg", "extra": None}, segSize=img.shape[1:])
    assert scores.shape == (1, 150, 41, 57)
    torch.testing.assert_close(scores.sum(1), torch.ones(1, 41, 57))
    _, pred = torch.max(scores, dim=1)
    assert colorEncode(pred[0].numpy(), np.zeros((150, 3), np.uint8)).shape == (41, 57, 3)


@pytest.mark.parametrize(
    ("arch", "fc_dim"),
    [
        ("mobilenetv2dilated", 320),
        ("resnet18", 512),
        ("resnet18dilated", 512),
        ("resnet50", 2048),
        ("resnet50dilated", 2048),
        ("resnet101", 2048),
        ("resnet101dilated", 2048),
        ("resnext101", 2048),
        ("hrnetv2", 720),
    ],
)
def test_the_last_map_has_the_channels_that_callers_pass_as_fc_dim(arch, fc_dim):
    with torch.device("meta"):
        encoder = ModelBuilder.build_encoder(arch, fc_dim=fc_dim, imagenet=False)
        decoder = ModelBuilder.build_decoder("ppm", fc_dim=fc_dim, use_softmax=True)
        (last,) = encoder.eval()(torch.empty(1, 3, 64, 64))
        assert last.size(1) == fc_dim
        assert decoder.eval()([last], segSize=(64, 64)).shape == (1, 150, 64, 64)


def test_the_wrapper_trains_with_what_the_collate_function_gives():
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1", channels=encoder.channels, num_class=3)
    module = SegmentationModule(encoder, decoder, torch.nn.NLLLoss(ignore_index=-1))
    wrapper = UserScatteredDataParallel(module, device_ids=["cpu"])
    item = {"img_data": torch.randn(2, 3, 32, 40), "seg_label": torch.zeros(2, 4, 5, dtype=torch.int64)}
    batch = user_scattered_collate([item])
    assert batch[0] is item
    loss, acc = wrapper(batch)
    loss.mean().backward()
    assert 0 <= acc.mean().item() <= 1


# Data


@pytest.fixture
def data(tmp_path):
    Image.new("RGB", (40, 30), (10, 20, 30)).save(tmp_path / "a.jpg")
    label = Image.new("P", (40, 30), 2)
    label.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    label.save(tmp_path / "a.png")
    return tmp_path, {"fpath_img": "a.jpg", "fpath_segm": "a.png", "width": 40, "height": 30}


def test_items_of_the_data_sets_have_their_keys_shapes_and_types(data):
    root, record = data
    opt = SimpleNamespace(imgSizes=[24, 32], imgMaxSize=100, padding_constant=8, segm_downsampling_rate=8)
    (root / "list.odgt").write_text(json.dumps(record))
    train = TrainDataset(str(root), str(root / "list.odgt"), opt, batch_per_gpu=2)[0]
    assert {"img_data", "seg_label"} <= train.keys()
    batch, _, height, width = train["img_data"].shape
    assert (batch, train["img_data"].dtype) == (2, torch.float32)
    assert train["seg_label"].shape == (2, height // 8, width // 8)
    assert train["seg_label"].dtype == torch.int64
    assert set(train["seg_label"].unique().tolist()) <= {-1, 1}

    val = ValDataset(str(root), [record], opt)[0]
    assert val.keys() == {"img_ori", "img_data", "seg_label", "info"}
    assert (val["img_ori"].shape, val["img_ori"].dtype) == ((30, 40, 3), np.uint8)
    assert [tuple(x.shape) for x in val["img_data"]] == [(1, 3, 24, 32), (1, 3, 32, 48)]
    assert val["seg_label"].shape == (1, 30, 40)
    assert val["info"] == "a.jpg"

    for odgt in ([{"fpath_img": str(root / "a.jpg")}], [str(root / "a.jpg")]):
        test = TestDataset(odgt, opt)[0]
        assert test.keys() == {"img_ori", "img_data", "info"}
        assert test["info"] == str(root / "a.jpg")
        assert torch.equal(test["img_data"][0], val["img_data"][0])


# Helpers


def test_as_numpy_and_async_copy_to_walk_through_nests():
    nest = {"a": torch.ones(2), "b": [torch.zeros(1), "text", None]}
    copied = async_copy_to(nest, "cpu")
    assert torch.equal(copied["a"], nest["a"])
    assert copied["b"][1:] == ["text", None]
    assert as_numpy(torch.tensor([1.5])).tolist() == [1.5]
    assert isinstance(as_numpy(nest)["b"][0], np.ndarray)


def test_unique_is_numpys():
    values, counts = unique(np.array([3, 1, 3]), return_counts=True)
    assert (values.tolist(), counts.tolist()) == ([1, 3], [1, 2])


def test_files_are_found_by_extension(data):
    root, _ = data
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.jpg").rename(root / "deep" / "er" / "b.jpg")
    assert find_recursive(str(root)) == [str(root / "deep" / "er" / "b.jpg")]
    assert find_recursive(root, ext=".png") == [str(root / "a.png")]


def test_devices_have_the_names_that_callers_cut():
    assert [int(name.replace("gpu", "")) for name in parse_devices("0-3")] == [0, 1, 2, 3]
    assert parse_devices("gpu1,3") == ["gpu1", "gpu3"]


def test_meters_and_accuracy_are_used_as_in_old_evaluation_loops():
    acc_meter, inter_meter = AverageMeter(), AverageMeter()
    acc, pixels = accuracy(np.array([[0, 1]]), np.array([[0, 0]]))
    acc_meter.update(acc, pixels)
    inter_meter.update(np.array([1, 2]))
    assert acc_meter.average() * 100 == 50
    assert (inter_meter.sum / (inter_meter.sum + 1e-10)).shape == (2,)


def test_the_logger_prints_on_standard_output(capsys):
    handlers = list(logging.getLogger("mit_semseg").handlers)
    logger = setup_logger(distributed_rank=0, filename="log.txt")
    try:
        logger.info("Loaded configuration file {}".format("x.yaml"))
        assert "Loaded configuration file x.yaml" in capsys.readouterr().out
        assert not Path("log.txt").exists()
    finally:
        logger.handlers = handlers


# What forks of the old package do besides


def test_classifiers_are_built_without_their_weights_as_the_old_builder_did():
    from mit_semseg.models import resnet
    from mit_semseg.models.models import ResnetDilated

    with torch.device("meta"):
        net = ResnetDilated(resnet.__dict__["resnet18"](pretrained=False), dilate_scale=8)
        ten = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], 10)
    assert net.channels == (64, 128, 256, 512)
    assert ten.fc.out_features == 10


def test_a_config_as_the_old_scripts_printed_it_loads(tmp_path):
    (tmp_path / "config.yaml").write_text(str(cfg))
    assert load_config(str(tmp_path / "config.yaml")) == cfg


def test_classes_that_do_not_exist_count_for_none():
    intersection, union = intersectionAndUnion(np.array([-1, 0, 1, 1]), np.array([0, 0, 255, -1]), 2)
    assert intersection.tolist() == [1, 0]
    assert union.tolist() == [2, 1]


def test_a_decoder_of_ones_own_may_return_a_list():
    class Pair(torch.nn.Module):
        def forward(self, features):
            return [features[0].log_softmax(1), features[0].log_softmax(1)]

    class Plain(torch.nn.Module):
        def forward(self, x, return_feature_maps=False):
            return [x]

    module = SegmentationModule(Plain(), Pair(), torch.nn.NLLLoss(ignore_index=-1), 0.5)
    batch = {"img_data": torch.zeros(1, 3, 2, 2), "seg_label": torch.zeros(1, 2, 2, dtype=torch.int64)}
    loss, _ = module(batch)
    torch.testing.assert_close(loss, 1.5 * torch.tensor(3.0).log())
