"""``mit-semseg import`` on checkpoints with recorded names. tests/models/foreign compares the scores."""

import json
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_models import NAMES, config, weights, write

from mit_semseg import Segmenter
from mit_semseg.cli import main
from mit_semseg.config import load_config
from mit_semseg.inference.load import model_spec
from mit_semseg.models.foreign.python_config import parse_config

pytest.importorskip("safetensors")


def run(source, out, *more):
    return main(["import", str(source), "--out", str(out), *map(str, more)])


def refusal(capsys, source, out, *more):
    """The message of an import that fails, which writes nothing."""
    before = sorted(out.parent.iterdir())
    assert run(source, out, *more) == 2
    assert sorted(out.parent.iterdir()) == before
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_model_is_a_folder_as_of_a_training(name, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(write(name, tmp_path / "source"), out) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        *("classes.csv", "config.yaml", "decoder_epoch_1.pth", "encoder_epoch_1.pth"),
    ]
    assert f"Written to {out}" in capsys.readouterr().out
    assert [file.name for file in tmp_path.glob(".*")] == []
    segmenter = Segmenter.load(out, device="cpu", sizes=64)
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    probabilities = segmenter(image).probabilities
    assert probabilities.shape == (len(segmenter.names), 70, 90)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert probabilities.std() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_fine_tuned_to_other_classes(name, tmp_path):
    out = tmp_path / "out"
    run(write(name, tmp_path / "source"), out)
    spec = model_spec(load_config(str(out / "config.yaml"), ["DATASET.num_class", "9"]))
    spec.check()
    files = str(out / "encoder_epoch_1.pth"), str(out / "decoder_epoch_1.pth")
    encoder, decoder = spec.build(files, use_softmax=False, reset_classifier=True)
    x = torch.randn(2, 3, 64, 96)
    result = decoder(encoder(x, return_feature_maps=True))
    main_scores = result[0] if decoder.deep_supervision else result
    assert main_scores.shape[1] == 9
    main_scores.exp()[:, 0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_names_of_classes_are_those_of_the_source(tmp_path):
    run(write("segformer", tmp_path / "source"), tmp_path / "out")
    assert Segmenter.load(tmp_path / "out", device="cpu").names == ("sky", "road", "car", "tree", "sign")


def test_classes_and_colours_of_mmsegmentation_are_kept(tmp_path):
    name = "mmseg pspnet"
    names = [f"thing {k}" for k in range(6)]
    meta = {
        "cfg": f"model = {config(name)!r}",
        "dataset_meta": {"classes": names, "palette": [[k, 0, 9] for k in range(6)]},
    }
    torch.save({"meta": meta, "state_dict": weights(name)}, tmp_path / "a.pth")
    run(tmp_path / "a.pth", tmp_path / "out")
    segmenter = Segmenter.load(tmp_path / "out", device="cpu")
    assert segmenter.names == tuple(names)
    assert segmenter.colors[5].tolist() == [5, 0, 9]


def test_a_config_file_can_be_given_and_be_based_on_others(tmp_path):
    name = "mmseg pspnet"
    values = config(name)
    head = values.pop("decode_head")
    torch.save(weights(name), tmp_path / "a.pth")
    (tmp_path / "base.py").write_text(
        f"model = dict(type='EncoderDecoder', backbone={values['backbone']!r}, decode_head=dict(convs=1))\n"
    )
    values.pop("backbone")
    (tmp_path / "psp.py").write_text(
        "import os\n_base_ = ['./base.py']\nhead = " + repr({**head, "_delete_": True}) + "\n"
        f"open({str(tmp_path / 'opened')!r}, 'w')\n"
        f"model = dict(decode_head=head, auxiliary_head={values['auxiliary_head']!r})\n"
        "workers = os.cpu_count()\n"
    )
    assert run(tmp_path / "a.pth", tmp_path / "out", "--config", tmp_path / "psp.py") == 0
    assert not (tmp_path / "opened").exists()  # nothing of a config is run


def test_sums_in_a_config_are_added(tmp_path):
    text = "widths = [18, 36]\nmodel = dict(channels=sum(widths), more=sum((1, 2, 3)), other=sum(1, 2))\n"
    model = parse_config(text + "text = sum('ab')\n", "a.py")["model"]
    assert (model["channels"], model["more"], repr(model["other"])) == (54, 6, "sum(1, 2)")


def test_objects_beside_the_weights_are_not_loaded(tmp_path, monkeypatch):
    name = "mmseg segformer"
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        loaded = 0

        def __setstate__(self, state):
            HistoryBuffer.loaded += 1

        def mean(self):
            return 0

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = module.__name__, "HistoryBuffer.mean"
    module.HistoryBuffer = HistoryBuffer
    for package in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    buffer = HistoryBuffer()
    buffer.history, buffer.method = np.ones(3), HistoryBuffer.mean
    content = {
        "meta": {"cfg": f"model = {config(name)!r}"},
        "state_dict": weights(name),
        "message_hub": {"log_scalars": {"loss": buffer}, "runtime_info": {"at": np.float64(2)}},
    }
    torch.save(content, tmp_path / "a.pth")
    assert run(tmp_path / "a.pth", tmp_path / "out") == 0
    assert HistoryBuffer.loaded == 0


def test_half_precision_becomes_float32_and_shards_are_read_together(tmp_path):
    from safetensors.torch import save_file

    source = write("segformer", tmp_path / "source")
    (source / "model.safetensors").unlink()
    state = {key: value.half() for key, value in weights("segformer").items()}
    parts = {}
    for k in range(2):
        names = sorted(state)[k::2]
        save_file({key: state[key] for key in names}, source / f"model-{k}.safetensors")
        parts |= dict.fromkeys(names, f"model-{k}.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    assert run(source, tmp_path / "out") == 0
    found = torch.load(tmp_path / "out/encoder_epoch_1.pth", weights_only=True)
    assert {value.dtype for value in found.values()} == {torch.float32}


def test_a_folder_of_the_cache_of_the_hub_is_read_at_its_main_revision(tmp_path):
    cached = tmp_path / "models--org--name"
    for revision in ("abc", "def"):
        write("segformer", cached / "snapshots" / revision)
    (cached / "snapshots/abc/config.json").unlink()
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("def")
    assert run(cached, tmp_path / "out") == 0


# Bad input


def test_an_unknown_family_is_named_with_those_that_are_known(tmp_path, capsys):
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "a.pth")
    message = refusal(capsys, tmp_path / "a.pth", tmp_path / "out")
    assert "no config of a known kind" in message
    assert "1 weights (layer.weight, ...)" in message
    assert "SegFormer of Hugging Face, UPerNet of Hugging Face, model of mmsegmentation" in message
    source = write("segformer", tmp_path / "source", values={"model_type": "beit"})
    assert "a model of type 'beit'" in refusal(capsys, source, tmp_path / "out")


def test_weights_without_a_config_say_where_it_is_given(tmp_path, capsys):
    torch.save(weights("mmseg pspnet"), tmp_path / "a.pth")
    message = refusal(capsys, tmp_path / "a.pth", tmp_path / "out")
    assert "looks like a model of mmsegmentation" in message
    assert "--config FILE" in message


def test_missing_and_unknown_weights_are_counted_and_the_first_is_named(tmp_path, capsys):
    state = weights("segformer")
    del state["segformer.encoder.patch_embeddings.1.proj.bias"]
    state["segformer.encoder.extra"] = torch.ones(1)
    message = refusal(capsys, write("segformer", tmp_path / "source", state), tmp_path / "out")
    assert "encoder 'mit_b0': 1 weight missing (first: stages.1.patches.bias)" in message
    assert "1 weight unknown (first: segformer.encoder.extra)" in message


def test_a_config_that_contradicts_the_weights_is_refused(tmp_path, capsys):
    values = config("segformer") | {"decoder_hidden_size": 20}
    message = refusal(capsys, write("segformer", tmp_path / "a", values=values), tmp_path / "out")
    assert "decoder 'segformer'" in message
    assert "of another shape (first: projections.0.weight is (12, 8, 1, 1), and (20, 8, 1, 1) by" in message
    values = config("segformer")
    values["id2label"]["5"] = "bus"
    message = refusal(capsys, write("segformer", tmp_path / "b", values=values), tmp_path / "out")
    assert "id2label names 6 classes, but the weights have 5" in message


def test_a_config_that_no_encoder_can_have_is_refused(tmp_path, capsys):
    values = config("segformer") | {"num_attention_heads": [3, 2, 3, 4]}
    message = refusal(capsys, write("segformer", tmp_path / "a", values=values), tmp_path / "out")
    assert f"{tmp_path / 'a'}: the encoder of this SegFormer" in message
    assert "the width 8 is not a multiple of the 3 heads" in message


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (
            "decode_head",
            "OCRHead",
            "model.decode_head.type is 'OCRHead', which is not supported. Supported: FCNHead",
        ),
        (
            "backbone",
            "ResNeSt",
            "model.backbone.type is 'ResNeSt', which is not supported. Supported: ResNet",
        ),
        ("neck", "FPN", "model.neck is {'type': 'FPN'}, but necks are not supported"),
    ],
)
def test_a_part_that_is_not_supported_is_named_with_those_that_are(place, value, says, tmp_path, capsys):
    values = config("mmseg pspnet")
    values[place] = values.get(place, {}) | {"type": value}
    message = refusal(capsys, write("mmseg pspnet", tmp_path / "a", values=values), tmp_path / "out")
    assert says in message


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("backbone", "dcn", {"type": "DCN"}),
        ("backbone", "depth", "fifty"),
        ("backbone", "strides", [1, 2, 1]),
        ("backbone", "dilations", [1, 1, 2, 10**30]),
        ("decode_head", "in_index", 7),
        ("decode_head", "in_channels", 63),
        ("decode_head", "norm_cfg", {"type": "GN"}),
        ("decode_head", "norm_cfg", None),
        ("decode_head", "act_cfg", {"type": "GELU"}),
        ("decode_head", "pool_scales", [[1], 2]),
        ("decode_head", "something", 1),
        ("decode_head", "align_corners", 1),
        ("data_preprocessor", "mean", [0, 0, 0]),
    ],
)
def test_a_value_that_is_not_supported_is_named(place, key, value, tmp_path, capsys):
    values = config("mmseg pspnet")
    values.setdefault(place, {})[key] = value
    message = refusal(capsys, write("mmseg pspnet", tmp_path / "a", values=values), tmp_path / "out")
    assert key in message


def test_damaged_files_are_refused(tmp_path, capsys):
    source = write("segformer", tmp_path / "source")
    file = source / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors cannot be read" in refusal(capsys, source, tmp_path / "out")
    file.write_bytes(whole)
    (source / "config.json").write_text('{"model_type": ')
    assert "config.json is not a JSON file" in refusal(capsys, source, tmp_path / "out")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10_000_000)
        archive.writestr("a/version", "3")
    assert "torch.save compresses nothing" in refusal(capsys, tmp_path / "a.pth", tmp_path / "out")


def test_a_weight_that_claims_more_than_the_file_holds_is_refused(tmp_path, capsys):
    name = "mmseg pspnet"
    state = weights(name) | {"backbone.stem.0.weight": torch.ones(1).expand(10**5, 10**5, 100)}
    message = refusal(capsys, write(name, tmp_path / "a", state), tmp_path / "out")
    assert "has 1000000000000 values, but the file holds fewer" in message


def test_weights_that_are_not_finite_are_refused(tmp_path, capsys):
    state = weights("segformer")
    state["decode_head.classifier.bias"][0] = torch.nan
    message = refusal(capsys, write("segformer", tmp_path / "a", state), tmp_path / "out")
    assert "conv_last.bias holds NaN" in message


def test_integers_of_a_quantized_model_are_refused_as_weights(tmp_path, capsys):
    # They were taken for the weights, without their scales.
    state = weights("segformer")
    name = next(name for name, value in state.items() if name.endswith("bias"))
    state[name] = torch.ones(state[name].shape, dtype=torch.int8)
    message = refusal(capsys, write("segformer", tmp_path / "a", state), tmp_path / "out")
    assert "is of type int8, as in a quantized model" in message


def test_a_missing_shard_is_named(tmp_path, capsys):
    source = write("segformer", tmp_path / "a")
    (source / "model.safetensors").rename(source / "model-0.safetensors")
    parts = {"x": "model-0.safetensors", "y": "model-1.safetensors"}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    message = refusal(capsys, source, tmp_path / "out")
    assert "a lacks model-1.safetensors, which model.safetensors.index.json lists" in message


def test_a_folder_that_holds_files_is_never_written(tmp_path, capsys):
    source = write("segformer", tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    assert "already exists" in refusal(capsys, source, out)
    assert [file.name for file in out.iterdir()] == ["mine"]


def test_without_a_network_the_message_lists_the_files(tmp_path, capsys, monkeypatch):
    pytest.importorskip("huggingface_hub")
    import huggingface_hub

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = refusal(capsys, "hf:org/model", tmp_path / "out")
    assert "Fetch config.json and model.safetensors" in message
    assert "ORG/NAME" in refusal(capsys, "hf:model", tmp_path / "out")


def test_a_source_that_does_not_exist_or_holds_nothing_is_named(tmp_path, capsys):
    assert "none.pth does not exist" in refusal(capsys, tmp_path / "none.pth", tmp_path / "out")
    Path(tmp_path / "empty").mkdir()
    assert "holds no weights" in refusal(capsys, tmp_path / "empty", tmp_path / "out")


# Training


def test_it_trains_on_other_classes_from_its_weights(tmp_path, call, tiny):
    out = tmp_path / "out"
    run(write("upernet on swin", tmp_path / "source"), out)
    starts = [
        *("MODEL.weights_encoder", out / "encoder_epoch_1.pth", "MODEL.weights_decoder"),
        *(out / "decoder_epoch_1.pth", "MODEL.reset_classifier", True, "DIR", tmp_path / "tuned"),
    ]
    words = ["train", "--gpus", "cpu", "--cfg", out / "config.yaml", "--cfg", dataset(tiny, tmp_path)]
    done = call(*words, *SHORT, *starts, "TRAIN.num_epoch", 1)
    assert done.code == 0, done.err
    assert (tmp_path / "tuned/decoder_epoch_1.pth").is_file()


SHORT = [
    *("TRAIN.epoch_iters", 2, "TRAIN.workers", 0, "TRAIN.tensorboard", False, "TRAIN.warmup_iters", 0),
    *("TRAIN.disp_iter", 1),
]


def dataset(tiny, folder):
    """A config with the keys of the tiny dataset alone."""
    data = load_config(str(tiny.config)).DATASET
    names = ("root_dataset", "list_train", "list_val", "classes", "num_class", "imgMaxSize")
    lines = [f"  {name}: {getattr(data, name)}" for name in names]
    (folder / "data.yaml").write_text("\n".join(["DATASET:", *lines, "  imgSizes: [64]"]))
    return folder / "data.yaml"


def test_a_training_continues_from_an_imported_epoch(tmp_path, call, tiny):
    out = tmp_path / "out"
    values, state = config("segformer"), weights("segformer")
    values["id2label"] = dict(enumerate(("brick", "lawn", "pool")))
    for key in ("weight", "bias"):
        state[f"decode_head.classifier.{key}"] = state[f"decode_head.classifier.{key}"][:3].clone()
    run(write("segformer", tmp_path / "source", state, values), out)
    data = dataset(tiny, tmp_path)
    more = ["TRAIN.start_epoch", 1, "TRAIN.num_epoch", 2]
    done = call("train", "--gpus", "cpu", "--cfg", out / "config.yaml", "--cfg", data, *SHORT, *more)
    assert done.code == 0, done.err
    assert (out / "decoder_epoch_2.pth").is_file()
    done = call("eval", "--gpus", "cpu", "--cfg", out / "config.yaml", "VAL.checkpoint", "epoch_2.pth")
    assert done.code == 0, done.err
    assert "brick" in done.out


def test_the_encoder_of_a_classifier_is_imported_alone(tmp_path, call):
    state = {name: value for name, value in weights("segformer").items() if "decode_head" not in name}
    state |= {"classifier.weight": torch.ones(10, 32), "classifier.bias": torch.ones(10)}
    source = write("segformer", tmp_path / "source", state)
    done = call("import", source, "--out", tmp_path / "out")
    assert done.code == 0
    assert "MODEL.arch_encoder mit_b0 MODEL.encoder_options 'depths: [1, 2, 1, 1], widths: [8" in done.out
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["encoder.pth"]
