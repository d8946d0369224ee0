"""TRAIN.amp, channels_last, autotune, compile and checkpoint_activations, as a user sees them."""

import re
import shutil

import pytest
import torch
from forked import in_processes
from test_precision import CPU, OneLayer, small_module, train

from mit_semseg.config import load_config
from mit_semseg.errors import UserError
from mit_semseg.runtime.distributed import ProcessInfo, gather_from_processes
from mit_semseg.training import speed
from mit_semseg.training.options import train_options
from mit_semseg.training.precision import Precision
from mit_semseg.training.speed import choose_precision, fastest, set_up_speed

PARTS = ("encoder", "decoder")


@pytest.fixture
def run(call, tiny, tmp_path):
    """``run("folder", "TRAIN.amp", "bf16")`` -> (its output, its weights after two iterations)."""

    def run(name, *words):
        start = ["train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / name]
        outcome = call(*start, "TRAIN.num_epoch", 1, *words)
        assert outcome.code == 0, outcome.err
        files = [tmp_path / name / f"{part}_epoch_1.pth" for part in PARTS]
        return outcome.out, [torch.load(file, weights_only=True) for file in files]

    return run


def settings(tiny, *words):
    return load_config(str(tiny.config), [str(word) for word in words])


def set_up(cfg, module=None, kept=None):
    """The precision of a run that resumes from the state ``kept`` if there is one."""
    module = module or small_module()
    options = train_options(cfg)
    precision = choose_precision(options.speed, module, CPU)
    if kept is not None:
        precision.load_state_dict(kept)
    arch_encoder = options.module.model.arch_encoder
    set_up_speed(options.speed, arch_encoder, module, precision, None, ProcessInfo(0, 1, CPU), [CPU])
    return precision


class SubBatches:
    """A dataset of noise in two sizes."""

    def sub_batch(self, index):
        generator = torch.Generator().manual_seed(index)
        size = 8 + 8 * (index % 2)
        return {
            "img_data": torch.randint(256, (2, 3, size, 8), generator=generator, dtype=torch.uint8),
            "seg_label": torch.randint(-1, 3, (2, size, 8), generator=generator).numpy(),
            "sizes": [(8, size)] * 2,
            "info": ["a.jpg", "b.jpg"],
        }


# Autotune


def test_autotune_takes_the_fastest_and_trains_as_if_it_had_been_named(run):
    out, tuned = run("tuned", "TRAIN.autotune", True)
    rows = re.findall(r"  (float32|bf16), (NCHW|channels-last) +([\d.]+) ms +[\d.]+ x(.*)", out)
    assert [(amp, layout) for amp, layout, _, _ in rows] == [
        ("float32", "NCHW"),
        ("float32", "channels-last"),
        ("bf16", "NCHW"),
    ]
    [taken] = [row for row in rows if row[3] == "  <- chosen"]
    assert float(taken[2]) == min(float(time) for _, _, time, _ in rows)  # printed times may be equal
    assert f"Computing in {taken[0]}, {taken[1]}\n" in out
    words = ["TRAIN.amp", taken[0].replace("float32", "none"), "TRAIN.channels_last", taken[1] != "NCHW"]
    torch.testing.assert_close(run("named", *words)[1], tuned, rtol=0, atol=0)


def choice_of_all(process):
    """What each process chooses, if one is fast in float32 and the other in bf16."""
    of_rank = {("none", False): (1, 3), ("bf16", False): (2, 1)}

    def seconds(trial, dataset, number, candidates, process, devices):
        return [of_rank.get((one.amp, one.channels_last), (9, 9))[process.rank] for one in candidates]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_seconds", seconds)
        chosen = fastest(small_module(), SubBatches(), process, [CPU])
    return gather_from_processes((chosen.amp, chosen.channels_last))


def test_processes_choose_what_is_fastest_for_all_of_them_together():
    """Otherwise they would wait for each other in different layers, or end with different weights."""
    assert in_processes(2, choice_of_all) == [("bf16", False)] * 2


def test_autotune_leaves_module_and_random_numbers_untouched():
    module = small_module()
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    fastest(module, SubBatches(), ProcessInfo(0, 1, CPU), [CPU])
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    torch.testing.assert_close(module.state_dict(), small_module().state_dict(), rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in module.parameters())


# A resumed run: the state decides, or the config


def test_the_state_decides_what_the_config_leaves_open(tiny):
    kept = Precision(CPU, "bf16", True).state_dict()
    for words in (["TRAIN.autotune", True], ["TRAIN.amp", "auto"]):
        assert set_up(settings(tiny, *words), kept=kept).state_dict() == kept
    assert set_up(settings(tiny, "TRAIN.amp", "none"), kept=kept).amp == "none"
    named = set_up(settings(tiny, "TRAIN.amp", "bf16", "TRAIN.channels_last", False), kept=kept)
    assert (named.amp, named.channels_last) == ("bf16", False)


def test_a_layout_is_restored_only_with_its_format():
    """The layout of a bf16 run says nothing about float32."""
    precision = Precision(CPU, "none", False, adopts_amp=False)
    precision.load_state_dict(Precision(CPU, "bf16", True).state_dict())
    assert (precision.amp, precision.channels_last) == ("none", False)


def with_dilated_depthwise_convolution():
    module = small_module()
    module.encoder.conv = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
    )
    return module


def test_bf16_in_channels_last_with_dilated_depthwise_convolutions_is_refused_on_a_cpu(tiny):
    for key in ("TRAIN.channels_last", "TRAIN.compile"):
        with pytest.raises(UserError) as caught:
            set_up(settings(tiny, "TRAIN.amp", "bf16", key, True), with_dilated_depthwise_convolution())
        assert str(caught.value).startswith(f"{key} is True, but bf16 on a CPU computes wrong gradients")
        set_up(settings(tiny, "TRAIN.amp", "bf16", "TRAIN.channels_last", True))


def test_a_state_from_a_gpu_does_not_switch_it_on(tiny):
    kept = Precision(CPU, "bf16", True).state_dict()
    taken = set_up(settings(tiny, "TRAIN.amp", "auto"), with_dilated_depthwise_convolution(), kept)
    assert (taken.amp, taken.channels_last) == ("bf16", False)


def test_the_scaler_resumes_with_its_factor(tiny):
    old = Precision(CPU, "fp16")
    old.scaler.load_state_dict({**old.scaler.state_dict(), "scale": 4.0})
    assert set_up(settings(tiny, "TRAIN.amp", "fp16"), kept=old.state_dict()).scaler.get_scale() == 4.0


def test_channels_last_is_a_word_or_a_truth_value(tiny, tmp_path):
    for text, wanted in (("true", "True"), ("False", "False"), ("auto", "auto")):
        file = tmp_path / "speed.yaml"
        file.write_text(f"TRAIN:\n  channels_last: {text}\n")
        assert load_config(str(file)).TRAIN.channels_last == wanted
        assert settings(tiny, "TRAIN.channels_last", wanted).TRAIN.channels_last == wanted


# Recomputed activations


def test_recomputed_activations_end_with_the_weights_and_statistics_of_kept_ones(run):
    frugal = run("frugal", "TRAIN.checkpoint_activations", True)[1]
    torch.testing.assert_close(frugal, run("plain")[1], rtol=0, atol=0)


def test_an_encoder_without_stages_cannot_recompute(tiny):
    with pytest.raises(
        UserError, match=r"^TRAIN\.checkpoint_activations is True, but mobilenetv2dilated has"
    ):
        set_up(settings(tiny, "TRAIN.checkpoint_activations", True))


# Compilation


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # from torch itself
def test_a_compiled_module_takes_the_same_steps_with_any_size_and_keeps_its_names(tiny, monkeypatch):
    # No trials of the compiler's instruction sets and no processes that compile, each of which imports torch.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", True)
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    plain, compiled = small_module(), small_module()
    precision = set_up(settings(tiny, "TRAIN.compile", True), compiled)
    for height in (8, 12, 20):
        batch = SubBatches().sub_batch(0)
        shard = {**batch, "img_data": torch.randn(2, 3, height, 8)}
        shard["seg_label"] = torch.ones(2, height, 8, dtype=torch.int64)
        losses = [train(module, precision, batch=[shard]).loss for module in (plain, compiled)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)
    assert isinstance(compiled.encoder, OneLayer)


def test_without_a_compiler_it_is_refused(tiny, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"^TRAIN\.compile is True, but there is no C\+\+ compiler here"):
        set_up(settings(tiny, "TRAIN.compile", True))


# Combinations that make no sense


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("TRAIN.amp bf", "TRAIN.amp is 'bf', but must be auto, none, bf16 or fp16."),
        ("TRAIN.freeze decoder", "TRAIN.freeze is 'decoder', but must be none, encoder or bn."),
        ("TRAIN.channels_last 1", "TRAIN.channels_last is '1', but must be auto, True or False."),
        (
            "TRAIN.autotune True TRAIN.amp bf16",
            "TRAIN.autotune chooses the number format, but TRAIN.amp is bf16. Remove one of them.",
        ),
        (
            "TRAIN.autotune True TRAIN.channels_last False",
            "TRAIN.autotune chooses the memory layout, but TRAIN.channels_last is False. Remove one of them",
        ),
        (
            "TRAIN.autotune True TRAIN.compile True",
            "TRAIN.autotune times the network before TRAIN.compile changes it",
        ),
        (
            "TRAIN.compile True TRAIN.checkpoint_activations True",
            "which torch can't compile. Set TRAIN.checkpoint_activations or TRAIN.",
        ),
        (
            "TRAIN.compile True TRAIN.parallel dp",
            "TRAIN.compile needs one process per device, but TRAIN.parallel",
        ),
        (
            "TRAIN.checkpoint_activations True TRAIN.parallel dp",
            "TRAIN.checkpoint_activations needs one process per device, but TRAIN.parallel is dp.",
        ),
        (
            "TRAIN.checkpoint_activations True TRAIN.freeze encoder",
            "no activations of the encoder are kept",
        ),
        ("MODEL.reset_classifier True", "MODEL.reset_classifier is True, but MODEL.weights_decoder is empty"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(tiny, words, message):
    with pytest.raises(UserError) as caught:
        settings(tiny, *words.split())
    assert message in str(caught.value)


def test_fp16_on_a_cpu_is_slow_and_says_so(run):
    out, _ = run("fp16", "TRAIN.amp", "fp16")
    assert "Computing in fp16, NCHW\n" in out
    assert "TRAIN.amp is fp16, which is slow on CPUs. Set it to auto or bf16." in out
