"""``mit-semseg model``: what a config's model costs."""

import json
from collections import Counter

import pytest
import torch
from forked import in_processes
from torch.utils._python_dispatch import TorchDispatchMode

from mit_semseg.config import load_config
from mit_semseg.runtime.machine import PeakMemory
from mit_semseg.training.profile import as_text, profile

TIMM = (
    *("MODEL.arch_encoder", "timm/test_efficientnet", "MODEL.arch_decoder", "upernet"),
    *("MODEL.decoder_dim", "8", "DATASET.segm_downsampling_rate", "4"),
)


def profiled(process, config):
    return profile(load_config(config), process.device, (64, 96), least_s=0)


@pytest.fixture(scope="module")
def figures(tiny):
    """In a new process, which has no memory left over from other work that would hide what is needed now."""
    return in_processes(1, profiled, str(tiny.config))


def test_operations_and_parameters_by_hand(figures):
    # C1 on 320 channels at stride 8: a 3x3 convolution to 80 without bias, BatchNorm, a 1x1 one to 3 classes.
    assert figures["decoder"]["parameters"] == 320 * 80 * 9 + 2 * 80 + 80 * 3 + 3
    assert figures["decoder"]["flops"] == 2 * (8 * 12) * (320 * 80 * 9 + 80 * 3)
    assert figures["encoder"]["strides"] == [4, 8, 8, 8, 8]
    assert figures["encoder"]["channels"] == [24, 32, 64, 160, 320]
    assert figures["encoder"]["parameters"] == 1_811_712


def test_operations_of_an_encoder_grow_with_the_pixels(tiny, figures):
    other = profile(load_config(str(tiny.config)), torch.device("cpu"), (128, 96), least_s=0)
    assert other["encoder"]["flops"] == 2 * figures["encoder"]["flops"]


@pytest.mark.parametrize("kind", ["score", "train"])
def test_a_rate_is_images_per_second(figures, kind):
    row = figures[kind]
    assert row["batch"] == {"score": 1, "train": 2}[kind]
    assert row["images_per_second"] == pytest.approx(row["batch"] / row["seconds"])
    assert row["runs"] == 3
    assert row["peak_memory"] is None or row["peak_memory"] > 4 * figures["encoder"]["parameters"]


def test_training_takes_more_memory_than_scoring(figures):
    if figures["score"]["peak_memory"] is not None:
        assert figures["train"]["peak_memory"] > figures["score"]["peak_memory"]


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)
def test_peak_memory_counts_tensors_that_were_freed(device):
    memory = PeakMemory(torch.device(device))
    torch.ones(50_000_000, device=device)
    peak = memory.peak()
    assert peak is None or peak > 200_000_000


def test_sizes_come_from_the_config(tiny):
    # Short edges 32 and 40 with a width of 4/3, up to a multiple of 8; crops in training.
    config = load_config(
        str(tiny.config),
        ["DATASET.augment", "crop", "DATASET.crop_size", "(32, 48)", "DATASET.imgSizes", "(30, 40)"],
    )
    figures = profile(config, torch.device("cpu"), least_s=0)
    assert (figures["score"]["size"], figures["train"]["size"]) == ([40, 56], [32, 48])


def test_a_table_for_people(call, tiny):
    outcome = call("model", "--gpu", "cpu", "--cfg", tiny.config, "--size", 64, 96, *TIMM)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].endswith("FLOPs at 64 x 96")
    assert lines[1].split()[:2] == ["encoder", "timm/test_efficientnet"]
    assert [line.split()[0] for line in lines if line and line[0] != " "] == [
        *("encoder", "decoder", "both", "maps", "scores", "score", "train", "on")
    ]
    assert len(lines[0]) == len(lines[1]) == len(lines[2]) == len(lines[3])
    assert "timm " in lines[-1]


def test_numbers_have_three_digits(figures):
    encoder = {**figures["encoder"], "parameters": 4_321_000, "flops": 26_824_700_000}
    train = {**figures["train"], "seconds": 26.8247, "images_per_second": 0.298232, "peak_memory": None}
    lines = as_text({**figures, "encoder": encoder, "train": train}).splitlines()
    assert "  4.32 M  " in lines[1]
    assert lines[1].endswith("26.8 G")
    assert lines[-3].split()[-5:-2] == ["0.298", "26,800", "-"]


def test_json_holds_the_same(call, tiny):
    outcome = call("model", "--json", "--gpu", "cpu", "--cfg", tiny.config, "--size", 32, 32)
    tree = json.loads(outcome.out)
    assert tree["encoder"]["parameters"] == 1_811_712
    assert {"mit-semseg", "PyTorch", "Python"} <= tree["versions"].keys()


def test_no_weights_are_loaded(tiny, tmp_path):
    words = ["MODEL.weights_encoder", str(tmp_path / "missing.pth"), "MODEL.pretrained", "True"]
    profile(load_config(str(tiny.config), words), torch.device("cpu"), (32, 32), least_s=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("MODEL.arch_encoder", "timm/resnet51x"), "which timm"),
        (("MODEL.output_stride", "12"), "MODEL.output_stride is 12, but must be 0, 8, 16 or 32."),
        (("MODEL.decoder_dropout", "1.0"), "must be a number >= 0 and < 1, or -1."),
        (("MODEL.decoder_norm", "layer"), "MODEL.decoder_norm is 'layer', but must be batch or group."),
        (("MODEL.decoder_dim", "-1"), "MODEL.decoder_dim is -1, but must be an integer >= 0"),
        (("TRAIN.loss", "a b"), "TRAIN.loss is 'a b', but takes a sum such as"),
        (("TRAIN.optim", "SGDD"), "TRAIN.optim is 'SGDD', which is not an optimizer."),
        (("TRAIN.batch_size_per_gpu", "1", "MODEL.arch_decoder", "ppm"), "Set TRAIN.batch_size_per_gpu 2"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(call, tiny, words, message):
    outcome = call("model", "--gpu", "cpu", "--cfg", tiny.config, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_a_decoder_that_pools_an_image_to_one_value_is_measured(tiny):
    words = [*TIMM, "MODEL.arch_decoder", "ppm", "MODEL.decoder_dim", "8"]
    words += ["DATASET.segm_downsampling_rate", "32", "DATASET.padding_constant", "32"]
    figures = profile(load_config(str(tiny.config), words), torch.device("cpu"), (32, 64), least_s=0)
    assert figures["decoder"]["flops"] > 0


@pytest.mark.parametrize("dim", ["0", "8"])
def test_group_norm_trains_with_single_images(tiny, dim):
    words = [*TIMM, "MODEL.arch_decoder", "ppm", "MODEL.decoder_norm", "group", "MODEL.decoder_dim", dim]
    words += ["DATASET.segm_downsampling_rate", "32", "DATASET.padding_constant", "32"]
    words += ["TRAIN.batch_size_per_gpu", "1"]
    figures = profile(load_config(str(tiny.config), words), torch.device("cpu"), (64, 96), least_s=0)
    assert figures["train"]["batch"] == 1


class CountedOperations(TorchDispatchMode):
    """How often each operation of torch runs inside the block, by name."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[function.name().split(".")[0]] += 1
        return function(*args, **(kwargs or {}))


def test_training_is_measured_as_configured(tiny, monkeypatch):
    seen = []

    def measured(run, device, batch, size, least_s):
        if batch > 1:  # the step of training, not the image that is scored
            with CountedOperations() as operations:
                run()
            seen.append(operations.counts)
        return {"batch": batch, "size": list(size)}

    monkeypatch.setattr("mit_semseg.training.profile._measured", measured)
    words = ["TRAIN.amp", "bf16", "TRAIN.freeze", "encoder", "TRAIN.loss", "lovasz"]
    for changed in ([], words):
        cfg = load_config(str(tiny.config), ["TRAIN.channels_last", "False", *changed])
        row = profile(cfg, torch.device("cpu"), (32, 32), least_s=0)["train"]
        assert row["precision"] == ("bf16, NCHW" if changed else "float32, NCHW")
    # MobileNetV2's ReLU6 goes backward only where the encoder is trained.
    assert ["aten::hardtanh_backward" in counts for counts in seen] == [True, False]
    assert [counts["aten::cumsum"] for counts in seen] == [0, 3]  # Lovász, for each class that occurs


def test_a_recipe_with_several_losses_at_full_resolution(tiny):
    words = [*TIMM, "TRAIN.loss", "cross_entropy + lovasz", "TRAIN.label_resolution", "full"]
    cfg = load_config(str(tiny.config), [*words, "TRAIN.class_weights", "enet"])
    figures = profile(cfg, torch.device("cpu"), (64, 96), least_s=0)
    assert figures["train"]["images_per_second"] > 0


@pytest.mark.parametrize("size", ["0", "-1", "9223372036854775808", "9" * 5000, "1e3"])
def test_a_size_that_no_image_has_is_refused(call, tiny, size):
    outcome = call("model", "--gpu", "cpu", "--cfg", tiny.config, "--size", 32, size)
    assert outcome.code == 2
    assert "65536" in outcome.err or "expected 2 arguments" in outcome.err
