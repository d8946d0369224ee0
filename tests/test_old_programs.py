"""Programs written for the package's predecessor, as public projects have them, run to their end."""

import importlib
import json
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mit_semseg.config import cfg
from mit_semseg.data.images import MEAN, STD
from mit_semseg.dataset import BaseDataset, TrainDataset, imresize
from mit_semseg.errors import UserError
from mit_semseg.lib.nn import UserScatteredDataParallel, patch_replication_callback, user_scattered_collate
from mit_semseg.models import ModelBuilder, SegmentationModule, models

# The training script


def group_weight(module):
    """Weights of convolutions and linear layers, and all others, which do not decay."""
    decay, no_decay = [], []
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            decay.append(layer.weight)
            no_decay += [layer.bias] if layer.bias is not None else []
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            no_decay += [layer.weight, layer.bias]
    assert len(list(module.parameters())) == len(decay) + len(no_decay)
    return [{"params": decay}, {"params": no_decay, "weight_decay": 0.0}]


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]], ids=["one", "two"])
def test_a_training_with_one_iterator_for_all_epochs_runs_to_its_end(tiny, tmp_path, devices):
    own = cfg.clone()
    own.merge_from_file(str(tiny.config))
    own.merge_from_list(["TRAIN.epoch_iters", 4, "TRAIN.num_epoch", 2, "DIR", str(tmp_path)])
    own.TRAIN.max_iters = own.TRAIN.epoch_iters * own.TRAIN.num_epoch
    encoder = ModelBuilder.build_encoder(own.MODEL.arch_encoder, own.MODEL.fc_dim, imagenet=False)
    decoder = ModelBuilder.build_decoder("c1_deepsup", own.MODEL.fc_dim, own.DATASET.num_class)
    crit = nn.NLLLoss(ignore_index=-1)
    module = SegmentationModule(encoder, decoder, crit, own.TRAIN.deep_sup_scale)
    dataset = TrainDataset(
        own.DATASET.root_dataset,
        own.DATASET.list_train,
        own.DATASET,
        batch_per_gpu=own.TRAIN.batch_size_per_gpu,
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=len(devices),
        shuffle=False,
        collate_fn=user_scattered_collate,
        num_workers=own.TRAIN.workers,
        drop_last=True,
    )
    iterator = iter(loader)  # made once
    if len(devices) > 1:
        module = UserScatteredDataParallel(module, device_ids=devices)
        patch_replication_callback(module)
    optimizers = [
        torch.optim.SGD(group_weight(net), lr=own.TRAIN.lr_encoder, momentum=0.9, weight_decay=1e-4)
        for net in (encoder, decoder)
    ]
    history = {"train": {"epoch": [], "loss": [], "acc": []}}
    for epoch in range(own.TRAIN.start_epoch, own.TRAIN.num_epoch):
        module.train(not own.TRAIN.fix_bn)
        for i in range(own.TRAIN.epoch_iters):
            batch = next(iterator)
            module.zero_grad()
            scale = (1.0 - (i + epoch * own.TRAIN.epoch_iters) / own.TRAIN.max_iters) ** own.TRAIN.lr_pow
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = own.TRAIN.lr_encoder * scale
            loss, acc = module(batch)
            loss, acc = loss.mean(), acc.mean()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            history["train"]["epoch"].append(epoch + i / own.TRAIN.epoch_iters)
            history["train"]["loss"].append(loss.data.item())
            history["train"]["acc"].append(acc.data.item())
        for part, content in ("history", history), ("encoder", encoder.state_dict()):
            torch.save(content, f"{own.DIR}/{part}_epoch_{epoch + 1}.pth")
    assert len(history["train"]["loss"]) == 8 > dataset.pass_length
    assert np.isfinite(history["train"]["loss"]).all()
    again = ModelBuilder.build_encoder(own.MODEL.arch_encoder, weights=f"{own.DIR}/encoder_epoch_2.pth")
    assert torch.equal(again.features[0][0].weight, encoder.features[0][0].weight)


def test_a_batch_in_a_list_is_copied_to_the_device_of_the_module():
    module = SegmentationModule(nn.Conv2d(3, 2, 1), nn.Identity(), None).to("meta")
    module.encoder.forward = lambda x, return_feature_maps: [x]
    module.decoder.forward = lambda maps, segSize: maps[-1]
    batch = user_scattered_collate([{"img_data": torch.zeros(1, 3, 4, 4)}])
    assert module(batch, segSize=(4, 4)).device.type == "meta"


# Datasets of their own


@pytest.fixture
def files(tmp_path):
    """A list of two images with labels; its lines have a key that the package does not know."""
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    lines = []
    for k in range(2):
        Image.fromarray(values).save(tmp_path / f"{k}.png")
        Image.new("L", (30, 20), k).save(tmp_path / f"{k}_label.png")
        lines.append({"fpath_img": f"{k}.png", "label_of_mine": f"{k}_label.png", "scene": k})
    (tmp_path / "list.odgt").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return tmp_path, values


class Own(BaseDataset):
    """As in projects that combine classes, or read depth besides."""

    def __init__(self, root, odgt, opt, **kwargs):
        super().__init__(odgt, opt, **kwargs)
        self.root = root

    def __len__(self):
        return self.num_sample

    def __getitem__(self, index):
        record = self.list_sample[index]
        size = self.round2nearest_multiple(20, self.padding_constant)
        image = imresize(Image.open(self.root / record["fpath_img"]), (size, size), interp="bilinear")
        label = imresize(Image.open(self.root / record["label_of_mine"]), (4, 4), interp="nearest")
        return self.img_transform(image), self.segm_transform(label), record["scene"]


def test_a_subclass_of_the_base_reads_its_own_records(files):
    root, values = files
    dataset = Own(root, str(root / "list.odgt"), cfg.DATASET)
    assert (len(dataset), dataset.imgSizes, dataset.imgMaxSize) == (2, (300, 375, 450, 525, 600), 1000)
    image, label, scene = dataset[1]
    assert (image.shape, image.dtype, scene) == ((3, 24, 24), torch.float32, 1)
    assert torch.equal(label, torch.zeros(4, 4, dtype=torch.int64))
    assert torch.equal(dataset[0][1], torch.full((4, 4), -1))
    wanted = (values / 255 - MEAN) / STD
    torch.testing.assert_close(dataset.img_transform(values).permute(1, 2, 0), torch.tensor(wanted).float())


def test_a_subclass_may_select_shuffle_and_replace_its_records(files):
    root, _ = files
    assert [r["scene"] for r in Own(root, root / "list.odgt", cfg.DATASET, max_sample=1).list_sample] == [0]
    part = Own(root, root / "list.odgt", cfg.DATASET, start_idx=1, end_idx=2)
    assert (part.num_sample, part[0][2]) == (1, 1)
    given = [np.zeros((2, 2)), "anything"]  # some projects pass arrays
    dataset = Own(root, given, cfg.DATASET)
    np.random.default_rng(0).shuffle(dataset.list_sample)
    assert given[1] == "anything"
    dataset.list_sample = given[:1]
    assert len(dataset.list_sample) == 1


def test_a_subclass_may_parse_its_list_and_normalize_itself(files):
    class Other(Own):
        def parse_input_list(self, odgt, max_sample=-1, **kwargs):
            self.list_sample = odgt.split()
            self.num_sample = len(self.list_sample)

    dataset = Other(files[0], "a b c", cfg.DATASET, max_sample=2)
    dataset.normalize = lambda image: image * 2
    assert (dataset.list_sample, len(dataset)) == (["a", "b", "c"], 3)
    assert dataset.img_transform(np.full((1, 1, 3), 255)).tolist() == [[[2.0]]] * 3


def test_a_list_that_cannot_be_used_is_refused_by_the_base_too(files):
    root, _ = files
    (root / "bad.odgt").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"bad\.odgt: line 2 is not JSON\."):
        Own(root, root / "bad.odgt", cfg.DATASET)
    with pytest.raises(ValueError, match="leave no record of odgt"):
        Own(root, [], cfg.DATASET)
    with pytest.raises(ValueError, match="interp is 'lanczos', but takes nearest, bilinear, bicubic"):
        imresize(Image.new("L", (2, 2)), (1, 1), interp="lanczos")


# Models of their own


def test_backbones_are_made_from_the_modules_of_models():
    with torch.device("meta"):
        net = models.MobileNetV2Dilated(
            models.mobilenet.__dict__["mobilenetv2"](pretrained=False), dilate_scale=8
        )
        assert (net.total_idx, list(net.down_idx)) == (18, [2, 4, 7, 14])
        five = models.resnet.resnet50(pretrained=False, num_classes=5)
        wide = models.resnext.resnext101(pretrained=False)
        assert models.hrnet.HRNetV2(n_class=1000).channels == (720,)
        assert models.mobilenet.MobileNetV2(n_class=7).classifier[1].out_features == 7
    assert five.fc.out_features == 5
    assert isinstance(wide, models.resnext.ResNeXt)
    with pytest.raises(ValueError, match="groups is 16, but the blocks have 32"):
        models.resnext.ResNeXt(models.resnext.GroupBottleneck, [1, 1, 1, 1], 16)


def test_a_block_may_be_given_its_shortcut():
    shortcut = nn.Conv2d(8, 8, 1)
    block = models.resnet.BasicBlock(8, 8, 1, shortcut)
    assert block.downsample is shortcut
    assert block.eval()(torch.zeros(1, 8, 4, 4)).shape == (1, 8, 4, 4)


DECODERS = {
    "c1": (models.C1, {}),
    "c1_deepsup": (models.C1DeepSup, {}),
    "ppm": (models.PPM, {"pool_scales": (1, 2, 3, 6)}),
    "ppm_deepsup": (models.PPMDeepsup, {}),
    "upernet_lite": (models.UPerNet, {"fpn_inplanes": (8, 16, 32, 64)}),
    "upernet": (models.UPerNet, {"fpn_inplanes": (8, 16, 32, 64), "fpn_dim": 512}),
}


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_made_without_the_builder(name):
    make, more = DECODERS[name]
    with torch.device("meta"):
        own = make(num_class=5, fc_dim=64, use_softmax=True, **more)
        built = ModelBuilder.build_decoder(name, fc_dim=64, num_class=5, use_softmax=True)
        maps = [torch.empty(1, 8 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(4)]
        assert own.eval()(maps, segSize=(64, 64)).shape == (1, 5, 64, 64)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (own, built)]
    assert shapes[0] == shapes[1]


def test_other_pool_scales_make_another_pyramid():
    with torch.device("meta"):
        assert len(models.PPM(5, 64, False, (1, 4)).ppm) == 2
        net = models.UPerNet(5, 64, pool_scales=(1, 4), fpn_inplanes=(8, 16, 32, 64))
    assert net.ppm_last_conv[0].in_channels == 64 + 2 * 512


def test_a_module_of_ones_own_measures_its_accuracy_with_the_base():
    class Mine(models.SegmentationModuleBase):
        pass

    scores = torch.tensor([[[[2.0, 0.0]], [[1.0, 3.0]]]])  # classes 0 and 1
    assert Mine().pixel_acc(scores, torch.tensor([[[0, 0]]])).item() == 0.5
    assert models.conv3x3_bn_relu(3, 8, 2)[0].stride == (2, 2)


def test_the_forward_of_hrnet_and_of_its_modules_can_be_replaced():
    # An exporter needs factors in place of sizes; this is the structure of its code.
    calls = []

    def fuse(self, x):
        calls.append(self.num_branches)
        x = [self.branches[i](x[i]) for i in range(self.num_branches)]
        fused = []
        for i in range(len(self.fuse_layers)):
            y = x[0] if i == 0 else self.fuse_layers[i][0](x[0])
            for j in range(1, self.num_branches):
                if i == j:
                    y = y + x[j]
                elif j > i:
                    y = y + upsampled(self.fuse_layers[i][j](x[j]), 2 ** (j - i))
                else:
                    y = y + self.fuse_layers[i][j](x[j])
            fused.append(self.relu(y))
        return fused

    def encode(self, x, return_feature_maps=False):
        x = self.layer1(self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))))
        stages = (
            (self.stage2_cfg, self.transition1, self.stage2),
            *(
                (self.stage3_cfg, self.transition2, self.stage3),
                (self.stage4_cfg, self.transition3, self.stage4),
            ),
        )
        maps = [x]
        for settings, transition, stage in stages:
            given = [
                maps[i] if transition[i] is None else transition[i](maps[-1])
                for i in range(settings["NUM_BRANCHES"])
            ]
            maps = stage(given)
        return [torch.cat([maps[0], *(upsampled(maps[i], 2**i) for i in (1, 2, 3))], 1)]

    def upsampled(x, factor):
        return nn.functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    torch.manual_seed(0)
    net = ModelBuilder.build_encoder("hrnetv2", imagenet=False).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (wanted,) = net(x)
        for module in net.modules():
            if isinstance(module, models.hrnet.HighResolutionModule):
                module.forward = types.MethodType(fuse, module)
        torch.testing.assert_close(net(x)[0], wanted, rtol=1e-3, atol=1e-4)
        assert calls == [2, 3, 3, 3, 3, 4, 4, 4]
        net.forward = types.MethodType(encode, net)
        torch.testing.assert_close(net(x)[0], wanted, rtol=1e-3, atol=1e-4)
    assert len(calls) == 16


def test_a_batchnorm_of_ones_own_takes_over_the_state_of_another():
    from mit_semseg.lib.nn import SynchronizedBatchNorm2d

    class Prudent(SynchronizedBatchNorm2d):
        def forward(self, input, **kwargs):
            training, self.training = self.training, self.training and input.shape[2] > 1
            output = super().forward(input)
            self.training = training
            return output

    decoder = ModelBuilder.build_decoder("ppm", fc_dim=16, num_class=3)
    for part in decoder.ppm:
        new = Prudent(part[2].num_features)
        for key, value in part[2].__dict__.items():
            setattr(new, key, value)
        part[2] = new
    features = nn.Sequential(*list(decoder.conv_last)[:-2])
    pooled = torch.cat([nn.functional.interpolate(p(torch.randn(1, 16, 6, 6)), 6) for p in decoder.ppm], 1)
    assert features(torch.cat([torch.randn(1, 16, 6, 6), pooled], 1)).shape == (1, 512, 6, 6)


# Paths of modules

PATHS = {
    "mit_semseg.config.defaults": "_C",
    "mit_semseg.dataset": "imresize img_transform round2nearest_multiple BaseDataset",
    "mit_semseg.lib.nn.modules": "SynchronizedBatchNorm1d SynchronizedBatchNorm2d SynchronizedBatchNorm3d "
    "DataParallelWithCallback patch_replication_callback",
    "mit_semseg.lib.nn.modules.batchnorm": "SynchronizedBatchNorm2d convert_model",
    "mit_semseg.lib.nn.modules.replicate": "DataParallelWithCallback patch_replication_callback",
    "mit_semseg.lib.nn.parallel": "UserScatteredDataParallel user_scattered_collate async_copy_to",
    "mit_semseg.lib.nn.parallel.data_parallel": "UserScatteredDataParallel user_scattered_collate "
    "async_copy_to",
    "mit_semseg.lib.utils.data": "DataLoader Dataset",
    "mit_semseg.lib.utils.th": "as_numpy as_variable mark_volatile",
    "mit_semseg.models.hrnet": "HighResolutionModule HRNetV2 BasicBlock Bottleneck hrnetv2",
    "mit_semseg.models.mobilenet": "InvertedResidual MobileNetV2 mobilenetv2",
    "mit_semseg.models.models": "BatchNorm2d conv3x3_bn_relu resnet resnext mobilenet hrnet",
    "mit_semseg.models.resnext": "GroupBottleneck ResNeXt resnext101",
    "mit_semseg.models.utils": "load_url",
    "mit_semseg.utils": "NotSupportedCliException parse_devices",
}


@pytest.mark.parametrize("path", PATHS)
def test_names_are_found_under_the_paths_of_the_old_package(path):
    module = importlib.import_module(path)
    assert [name for name in PATHS[path].split() if not hasattr(module, name)] == []


def test_a_checkpoint_is_downloaded_once_and_read(tmp_path, monkeypatch):
    from mit_semseg.models.utils import load_url

    (tmp_path / "server").mkdir()
    torch.save({"weight": torch.ones(2)}, tmp_path / "server" / "net.pth")
    url = (tmp_path / "server" / "net.pth").as_uri()
    assert torch.equal(load_url(url, str(tmp_path / "cache"))["weight"], torch.ones(2))
    (tmp_path / "server" / "net.pth").unlink()
    assert load_url(url, model_dir=str(tmp_path / "cache"), map_location="cpu").keys() == {"weight"}
