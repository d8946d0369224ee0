"""Sources of `mit-semseg import` that are used without it: by Segmenter.load and MODEL.weights_*."""

import sys

import numpy as np
import pytest
import torch
from forked import run_python
from recorded_models import config, weights, write

from mit_semseg import Segmenter
from mit_semseg.cli import main
from mit_semseg.config import load_config
from mit_semseg.errors import UserError
from mit_semseg.inference.load import model_spec
from mit_semseg.models import ModelBuilder
from mit_semseg.runtime.log import setup_logger

pytest.importorskip("safetensors")

SOURCES = ("segformer", "upernet on swin", "mmseg pspnet")
IMAGE = np.random.default_rng(3).integers(0, 255, (61, 83, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", SOURCES)
def test_a_segmenter_gives_the_scores_of_the_imported_folder(name, tmp_path):
    source = write(name, tmp_path / "source")
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    for sizes in (64, 97):
        ours = Segmenter.load(tmp_path / "out", device="cpu", sizes=sizes)
        theirs = Segmenter.load(source, device="cpu", sizes=sizes)
        np.testing.assert_array_equal(theirs(IMAGE).probabilities, ours(IMAGE).probabilities)
    assert theirs.names == ours.names
    np.testing.assert_array_equal(theirs.colors, ours.colors)


def test_a_folder_with_a_checkpoint_and_a_config_in_python_is_read(tmp_path):
    torch.save(weights("mmseg pspnet"), tmp_path / "a.pth")
    (tmp_path / "psp.py").write_text(f"model = {config('mmseg pspnet')!r}\n")
    assert len(Segmenter.load(tmp_path, device="cpu").names) == 6


@pytest.mark.parametrize("name", SOURCES)
def test_encoder_and_decoder_start_from_it(name, tmp_path):
    source = write(name, tmp_path / "source")
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    spec = model_spec(load_config(str(tmp_path / "out/config.yaml")))
    files = str(tmp_path / "out/encoder_epoch_1.pth"), str(tmp_path / "out/decoder_epoch_1.pth")
    ours = spec.build(files, use_softmax=False)
    theirs = spec.build((str(source), str(source)), use_softmax=False)
    for one, other in zip(ours, theirs, strict=True):
        states = one.state_dict(), other.state_dict()
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_training_starts_from_it_with_other_classes(tmp_path, call, tiny):
    source = write("segformer", tmp_path / "source")
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    data = load_config(str(tiny.config)).DATASET
    names = ("root_dataset", "list_train", "list_val", "classes", "num_class", "imgMaxSize")
    (tmp_path / "data.yaml").write_text(
        "\n".join(["DATASET:", *(f"  {name}: {data[name]}" for name in names), "  imgSizes: [64]"])
    )
    start = ["MODEL.weights_encoder", source, "MODEL.weights_decoder", source]
    more = ["TRAIN.num_epoch", 1, "TRAIN.epoch_iters", 1, "TRAIN.workers", 0, "TRAIN.warmup_iters", 0]
    words = ["train", "--gpus", "cpu", "--cfg", tmp_path / "out/config.yaml", "--cfg", tmp_path / "data.yaml"]
    words += [*start, *more, "TRAIN.tensorboard", False, "DIR", tmp_path / "tuned"]
    done = call(*words)
    assert done.code == 2
    assert "It was trained with 5 classes, this model has 3" in done.err
    done = call(*words, "MODEL.reset_classifier", True)
    assert done.code == 0, done.err


def snapshot(folder, source):
    """The folder of a model in the cache of huggingface_hub: blobs, and links to them."""
    revision = folder / "snapshots" / "0123abcd"
    revision.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("0123abcd")
    for k, file in enumerate(sorted(source.iterdir())):
        file.rename(folder / "blobs" / f"{k}e15b0")
        (revision / file.name).symlink_to(f"../../blobs/{k}e15b0")
    return revision


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_the_cache_of_the_hub_is_read(tmp_path):
    cached = tmp_path / "models--org--name"
    revision = snapshot(cached, write("segformer", tmp_path / "source"))
    results = []
    for k, source in enumerate((cached, revision, revision / "model.safetensors")):
        assert main(["import", str(source), "--out", str(tmp_path / f"out{k}")]) == 0
        results.append(Segmenter.load(source, device="cpu", sizes=64)(IMAGE).probabilities)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_name_of_the_hub_is_found_in_its_cache_without_a_network(tmp_path):
    pytest.importorskip("huggingface_hub")
    snapshot(tmp_path / "hub/models--org--name", write("segformer", tmp_path / "source"))
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    code = "from mit_semseg import Segmenter; print(len(Segmenter.load('hf:org/name', device='cpu').names))"
    done = run_python("-c", code, cwd=tmp_path, environment=environment)
    assert done.code == 0, done.err
    assert done.out.strip() == "5"
    done = run_python("-c", code.replace("org/name", "org/other"), cwd=tmp_path, environment=environment)
    assert "Fetch config.json and model.safetensors" in done.err
    words = ["-m", "mit_semseg", "import", "hf:org/other", "--out", tmp_path / "out"]
    done = run_python(*words, cwd=tmp_path, environment=environment)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "https://huggingface.co/org/other/tree/main" in done.err


def test_options_of_the_source_that_the_config_lacks_are_named(tmp_path, capsys):
    source = str(write("mmseg pspnet", tmp_path / "source"))
    with pytest.raises(UserError, match=r"does not fit encoder 'resnet50_v1c'.*whose encoder is MODEL.arch"):
        ModelBuilder.build_encoder("resnet50_v1c", weights=source)
    model = Segmenter.load(source, device="cpu", sizes=64).title.partition(" ")[0]
    values = config("mmseg pspnet")["backbone"]
    options = {"stem_channels": values["stem_channels"], "base_channels": values["base_channels"]}
    setup_logger()
    ModelBuilder.build_encoder(model, weights=source, options=options)
    out = capsys.readouterr().out
    assert "dilations: [1, 1, 2, 4]" in out
    assert "unlike the config" in out


def test_what_is_not_a_foreign_model_is_refused_as_before(tmp_path):
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="does not fit encoder 'mit_b0'"):
        ModelBuilder.build_encoder("mit_b0", weights=str(tmp_path / "a.pth"))
    with pytest.raises(UserError, match="is not a model that can be imported"):
        Segmenter.load(tmp_path / "a.pth")
    torch.save(weights("mmseg pspnet"), tmp_path / "b.pth")
    with pytest.raises(UserError, match="looks like a model of mmsegmentation, but holds no config"):
        ModelBuilder.build_encoder("resnet50_v1c", weights=str(tmp_path / "b.pth"))
    (tmp_path / "encoder_epoch_1.pth").touch()
    with pytest.raises(UserError, match=r"is a checkpoint\. Pass its folder"):
        Segmenter.load(tmp_path / "encoder_epoch_1.pth")
    source = write("segformer", tmp_path / "source")
    with pytest.raises(UserError, match="holds a single model"):
        Segmenter.load(source, device="cpu", checkpoint="epoch_1.pth")
