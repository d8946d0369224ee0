"""The published weights, downloaded from a mirror with the same paths as the host."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from mit_semseg.errors import UserError
from mit_semseg.models.weights.checkpoint import newest_epoch
from mit_semseg.models.weights.pretrained import PUBLISHED, fetch_published, imagenet_weights


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror, set in the environment, and an empty cache."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("MIT_SEMSEG_MIRROR", folder.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


def publish(mirror: Path, name: str) -> Path:
    file = mirror / name
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.arange(3.0)}, file)
    return file


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("resnet18", "resnet18-imagenet.pth"),
        ("resnet18dilated", "resnet18-imagenet.pth"),
        ("resnet50", "resnet50-imagenet.pth"),
        ("ResNet50Dilated", "resnet50-imagenet.pth"),
        ("resnet101", "resnet101-imagenet.pth"),
        ("resnet101dilated", "resnet101-imagenet.pth"),
        ("resnext101", "resnext101-imagenet.pth"),
        ("hrnetv2", "hrnetv2_w48-imagenet.pth"),
        ("mobilenetv2dilated", "mobilenet_v2.pth.tar"),
    ],
)
def test_imagenet_weights_are_downloaded_into_the_cache_of_torch(
    arch: str, name: str, mirror: Path, tmp_path: Path
) -> None:
    published = publish(mirror, f"pretrained_resnet/{name}")
    file = imagenet_weights(arch)
    assert file == tmp_path / "torch" / "hub" / "checkpoints" / name
    assert file.read_bytes() == published.read_bytes()
    published.unlink()
    assert imagenet_weights(arch) == file  # from the cache


@pytest.mark.parametrize("arch", ["resnet34", "resnet34dilated", "vgg16"])
def test_an_encoder_without_imagenet_weights_is_refused_with_what_to_set(arch: str) -> None:
    with pytest.raises(UserError) as error:
        imagenet_weights(arch)
    assert str(error.value) == (
        f"No ImageNet weights are published for {arch!r}. Set MODEL.pretrained False to start from random "
        "weights, or MODEL.weights_encoder to a checkpoint."
    )


def test_the_eight_published_models_are_downloaded_to_where_the_scripts_look(
    mirror: Path, tmp_path: Path
) -> None:
    assert len(PUBLISHED) == 8
    for folder, epoch in PUBLISHED.items():
        wanted = [
            publish(mirror, f"pytorch/{folder}/{part}_epoch_{epoch}.pth") for part in ("encoder", "decoder")
        ]
        directory = tmp_path / "ckpt" / folder
        files = fetch_published(folder, directory)
        assert [file.name for file in files] == [file.name for file in wanted]
        assert [file.parent for file in files] == [directory, directory]
        assert newest_epoch(directory) == epoch


def test_only_the_missing_one_of_the_two_files_is_downloaded(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "encoder_epoch_30.pth").write_bytes(b"mine")
    publish(mirror, "pytorch/ade20k-hrnetv2-c1/decoder_epoch_30.pth")
    encoder, decoder = fetch_published("ade20k-hrnetv2-c1", tmp_path)
    assert encoder.read_bytes() == b"mine"
    assert decoder.is_file()


def test_an_unpublished_model_is_refused_with_the_published_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"No published model is called 'mine'. The published models are ade20k-hrnetv2-c1, "
    ):
        fetch_published("mine", tmp_path)


@pytest.mark.usefixtures("mirror")
def test_a_failed_download_is_reported_with_every_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(UserError) as error:
        imagenet_weights("resnet50")
    message = str(error.value)
    assert (
        "/mirror/pretrained_resnet/resnet50-imagenet.pth could not be downloaded: no such file"
        in message.lower()
    )
    assert message.endswith(
        f"Put the file at {tmp_path}/torch/hub/checkpoints/resnet50-imagenet.pth by hand. "
        "Or set MIT_SEMSEG_MIRROR to a mirror's URL, or MODEL.pretrained False for random weights."
    )


def test_the_host_is_asked_when_no_mirror_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIT_SEMSEG_MIRROR", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a closed port: nothing leaves this machine
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    url = "http://sceneparsing.csail.mit.edu/model/pretrained_resnet/resnet18-imagenet.pth"
    with pytest.raises(UserError, match=f"^{url} could not be downloaded: Connection refused"):
        imagenet_weights("resnet18dilated")


@pytest.fixture
def served(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The mirror as a web server, with a slash too many at the end of its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mirror))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        monkeypatch.setenv("MIT_SEMSEG_MIRROR", f"http://127.0.0.1:{server.server_port}/")
        yield mirror
        server.shutdown()
        thread.join()


def test_a_mirror_may_be_a_web_server(served: Path) -> None:
    published = publish(served, "pretrained_resnet/resnet18-imagenet.pth")
    assert imagenet_weights("resnet18").read_bytes() == published.read_bytes()


def test_a_truncated_file_on_the_mirror_never_gets_into_the_cache(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    published = publish(served, "pretrained_resnet/resnet18-imagenet.pth")
    published.write_bytes(published.read_bytes()[:-100])
    with pytest.raises(UserError, match="are not a complete checkpoint"):
        imagenet_weights("resnet18")
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    assert [file.name for file in cache.iterdir()] == [".resnet18-imagenet.pth.lock"]
