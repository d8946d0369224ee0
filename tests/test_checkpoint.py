"""Checkpoint files of every age: read, loaded whole or not at all, written without loss."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mit_semseg.checkpoint import (
    epoch_path,
    load_weights,
    newest_epoch,
    read,
    read_state_dict,
    save_atomically,
)
from mit_semseg.errors import UserError


def small_decoder(num_class: int = 11, width: int = 6) -> nn.Module:
    torch.manual_seed(num_class)
    return nn.Sequential(
        OrderedDict(
            cbr=nn.Sequential(nn.Conv2d(4, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            conv_last=nn.Conv2d(width, num_class, 1),
            conv_last_deepsup=nn.Conv2d(width, num_class, 1),
        )
    )


def trained(num_class: int = 11, width: int = 6) -> nn.Module:
    """A decoder after a step, so that its statistics and its step count are no initial values."""
    net = small_decoder(num_class, width)
    with torch.no_grad():
        net.cbr(torch.randn(2, 4, 5, 5))  # type: ignore[operator]
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        action()
    return str(error.value)


# Names


def test_the_files_of_an_epoch_have_the_names_that_other_tools_know() -> None:
    assert epoch_path("ckpt/x", "encoder", 20) == Path("ckpt/x/encoder_epoch_20.pth")
    assert epoch_path("ckpt/x", "history", 5) == Path("ckpt/x/history_epoch_5.pth")


def test_the_newest_epoch_is_the_highest_with_both_files(tmp_path: Path) -> None:
    assert newest_epoch(tmp_path) is None
    assert newest_epoch(tmp_path / "nowhere") is None
    for name in (
        *("encoder_epoch_2.pth", "decoder_epoch_2.pth"),
        *("encoder_epoch_9.pth", "decoder_epoch_9.pth"),
        *("encoder_epoch_10.pth", "decoder_epoch_10.pth"),
        *("encoder_epoch_11.pth", "history_epoch_11.pth"),  # stopped before its decoder was there
        *("encoder_epoch_best.pth", "decoder_epoch_best.pth"),
        *(".encoder_epoch_12.pth.part", "decoder_epoch_12.pth"),
        *("encoder_epoch_099.pth", "decoder_epoch_099.pth"),
    ):
        (tmp_path / name).touch()
    assert newest_epoch(tmp_path) == 10
    assert newest_epoch(tmp_path / "encoder_epoch_2.pth") is None


# Reading


@pytest.mark.parametrize("use_zip", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: dict(weights),
        lambda weights: {"state_dict": weights, "epoch": 20, "arch": "resnet50"},
        lambda weights: {"module." + name: value for name, value in weights.items()},
        lambda weights: {"state_dict": {"module." + name: value for name, value in weights.items()}},
        lambda weights: {name: nn.Parameter(value, requires_grad=False) for name, value in weights.items()},
    ],
)
def test_weights_are_read_however_they_were_wrapped(
    wrap: Callable[[Any], Any], use_zip: bool, tmp_path: Path
) -> None:
    net = trained()
    torch.save(wrap(net.state_dict()), tmp_path / "x.pth", _use_new_zipfile_serialization=use_zip)
    weights = read_state_dict(tmp_path / "x.pth")
    assert list(weights) == list(net.state_dict())
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    other = small_decoder(num_class=11)
    load_weights(other, tmp_path / "x.pth", part="decoder", arch="c1_deepsup")
    assert same(net, other)


def test_a_prefix_that_only_some_names_have_is_kept(tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(1), "bias": torch.ones(1)}, tmp_path / "x.pth")
    assert list(read_state_dict(tmp_path / "x.pth")) == ["module.weight", "bias"]


class Python2Pickler(pickle._Pickler):  # the one in Python, whose opcodes can be chosen
    """Pickles as Python 2 did for PyTorch 0.3: text as bytes, an OrderedDict as a list of pairs."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_text(self, text: str) -> None:
        raw = text.encode()
        self.write(b"U" + bytes([len(raw)]) + raw)  # SHORT_BINSTRING
        self.memoize(text)

    dispatch[str] = save_text

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            return ("storage", torch.FloatStorage, obj.key, "cuda:0", len(obj.values), None)
        return None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, OldTensor):
            return (torch._utils._rebuild_tensor, (obj.storage, 0, obj.shape, obj.stride))
        if type(obj) is OrderedDict:
            return (OrderedDict, ([[name, value] for name, value in obj.items()],), vars(obj) or None)
        return NotImplemented


class Storage:
    def __init__(self, key: str, values: list[float]) -> None:
        self.key, self.values = key, values


class OldTensor:
    def __init__(self, key: str, tensor: Tensor) -> None:
        self.storage = Storage(key, tensor.flatten().tolist())
        self.shape, self.stride = tuple(tensor.shape), tensor.contiguous().stride()


def write_as_python_2(weights: dict[str, Tensor], path: Path) -> None:
    """A file as PyTorch 0.3 on Python 2 wrote it from a GPU: the tensors' pickle, then their numbers."""
    file = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
        Python2Pickler(file, 2).dump(header)
    tensors = {name: OldTensor(str(i), value) for i, (name, value) in enumerate(weights.items())}
    state = OrderedDict(tensors)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    Python2Pickler(file, 2).dump(state)
    Python2Pickler(file, 2).dump([tensor.storage.key for tensor in tensors.values()])
    for tensor in tensors.values():
        values = tensor.storage.values
        file.write(struct.pack(f"<q{len(values)}f", len(values), *values))
    path.write_bytes(file.getvalue())


def test_a_file_that_python_2_wrote_on_a_gpu_is_loaded(tmp_path: Path) -> None:
    net = trained()
    weights = {
        name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    write_as_python_2(weights, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes().startswith(b"\x80\x02")
    other = small_decoder()
    load_weights(other, tmp_path / "x.pth", part="decoder", arch="c1")
    net.cbr[1].num_batches_tracked.zero_()  # type: ignore[index,union-attr,operator]
    assert same(net, other)


def test_half_precision_weights_fill_a_single_precision_module(tmp_path: Path) -> None:
    net, other = trained().half(), small_decoder()
    save_atomically(net.state_dict(), tmp_path / "x.pth")
    load_weights(other, tmp_path / "x.pth", part="decoder", arch="c1")
    assert other.conv_last.weight.dtype == torch.float32  # type: ignore[union-attr]
    assert same(net.float(), other)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(path: Path, obj: object, use_zip: bool = True) -> Path:
    torch.save(obj, path, _use_new_zipfile_serialization=use_zip)
    return path


def test_a_missing_file_is_told_with_what_is_there_instead(tmp_path: Path) -> None:
    file = tmp_path / "encoder_epoch_20.pth"
    assert refusal(lambda: read(file)) == f"{file} does not exist. There is no .pth file in {tmp_path}."
    (tmp_path / "encoder_epoch_5.pth").touch()
    assert refusal(lambda: read(file)) == f"{file} does not exist. {tmp_path} holds encoder_epoch_5.pth."
    nowhere = tmp_path / "nowhere" / "x.pth"
    assert "There is no .pth file in" in refusal(lambda: read(nowhere))


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert refusal(lambda: read(tmp_path)) == f"{tmp_path} cannot be read: Is a directory. Name another file."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes). Delete it, and fetch or save it again."),
        (
            b"<!DOCTYPE html>\n<html>Down for maintenance</html>",
            "is a web page, not a checkpoint: "
            "it begins with '<!DOCTYPE html> <html>Down for maintenance</html>'. "
            "Delete it, and fetch or save it again.",
        ),
        (
            b"version https://git-lfs",
            "is not a PyTorch checkpoint: it begins with 'version https://git-lfs'. "
            "Name another file, or fetch it again.",
        ),
        (pickle.dumps({"a": 1}, 2), "is damaged, truncated or no PyTorch checkpoint (17 bytes)."),
        (b"\x80\x02" + bytes(1000), "is damaged, truncated or no PyTorch checkpoint (1002 bytes)."),
        (b"PK\x03\x04" + bytes(1000), "is truncated: after 1004 bytes the zip archive has no end."),
    ],
)
def test_what_is_no_checkpoint_is_told_by_how_it_begins(content: bytes, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.pth", content)
    message = refusal(lambda: read_state_dict(file))
    assert message.startswith(f"{file} {reason}")


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_beside_an_optimizer_are_found(key: str, tmp_path: Path) -> None:
    weights = trained().state_dict()
    file = saved(tmp_path / "x.pth", {"epoch": 3, key: weights})
    assert read_state_dict(file).keys() == weights.keys()


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("photo.txt", "not a tensor")
    message = refusal(lambda: read_state_dict(tmp_path / "x.pth"))
    assert message.startswith(f"{tmp_path / 'x.pth'} is damaged, truncated or")


@pytest.mark.parametrize("use_zip", [True, False])
def test_a_file_cut_off_anywhere_is_refused(use_zip: bool, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pth", trained().state_dict(), use_zip).read_bytes()
    for size in (*range(1, 300), *range(300, len(whole), len(whole) // 40)):
        message = refusal(lambda size=size: read_state_dict(write(tmp_path / "x.pth", whole[:size])))
        assert str(tmp_path / "x.pth") in message
        assert size < 4 or f"{size} bytes" in message


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code from a checkpoint has run')",))


@pytest.mark.parametrize("use_zip", [True, False])
def test_code_in_a_file_does_not_run(use_zip: bool, tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", {"weight": Malicious()}, use_zip)
    assert refusal(lambda: read_state_dict(file)) == (
        f"{file} holds a Python object of type exec, which could run code when it is loaded. "
        "Save the state_dict() of the model instead of the model."
    )


def test_a_whole_model_is_refused_with_what_to_save(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", small_decoder())
    assert "torch.nn.modules.container.Sequential" in refusal(lambda: read_state_dict(file))


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        ([torch.ones(1)], "holds a list, not weights by name."),
        (torch.ones(1), "holds a Tensor, not weights by name."),
        ({}, "holds no weights at all."),
        ({"net": {"weight": torch.ones(1)}}, "does not hold weights by name: its entry 'net' is a dict."),
        ({0: torch.ones(1)}, "does not hold weights by name: its entry 0 is a Tensor."),
    ],
)
def test_what_holds_no_weights_by_name_is_refused(obj: object, reason: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", obj)
    assert refusal(lambda: read_state_dict(file)).startswith(f"{file} {reason}")


# Loading


def test_the_bookkeeping_of_old_files_is_dropped_and_the_missing_step_count_starts_at_zero(
    tmp_path: Path,
) -> None:
    net = trained()
    old: dict[str, Tensor] = OrderedDict()
    for name, value in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            old[name] = value
        if name.endswith("running_var"):
            stem = name.removesuffix("running_var")
            old[stem + "_tmp_running_mean"] = value * 7
            old[stem + "_tmp_running_var"] = value * 7
            old[stem + "_running_iter"] = torch.ones(1)
    saved(tmp_path / "x.pth", old, use_zip=False)
    other = trained()  # has counted a step itself
    load_weights(other, tmp_path / "x.pth", part="decoder", arch="c1")
    assert other.cbr[1].num_batches_tracked.item() == 0  # type: ignore[index,union-attr,operator]
    net.cbr[1].num_batches_tracked.zero_()  # type: ignore[index,union-attr,operator]
    assert same(net, other)


def test_missing_and_unknown_weights_are_counted_and_the_first_of_each_is_named(tmp_path: Path) -> None:
    weights = trained().state_dict()
    del weights["conv_last.bias"], weights["conv_last_deepsup.bias"]
    file = saved(tmp_path / "decoder_epoch_20.pth", weights)
    net = small_decoder()
    assert refusal(lambda: load_weights(net, file, part="decoder", arch="ppm")) == (
        f"{file} does not fit decoder 'ppm': 2 weights missing (first: conv_last.bias), 0 unknown. "
        "Set MODEL.arch_decoder, decoder_dim and decoder_norm to what it was trained as, or name another "
        "file."
    )
    del weights["conv_last.weight"]
    weights["layer1.conv.weight"] = weights["layer2.conv.weight"] = weights["conv_last.bias"] = torch.ones(11)
    saved(file, weights)
    assert refusal(lambda: load_weights(net, file, part="encoder", arch="resnet18")) == (
        f"{file} does not fit encoder 'resnet18': 2 weights missing (first: conv_last.weight), "
        "2 unknown (first: layer1.conv.weight). "
        "Set MODEL.arch_encoder to what it was trained as, or name another file."
    )


def test_another_number_of_classes_is_told_with_both_numbers(tmp_path: Path) -> None:
    file = saved(tmp_path / "decoder_epoch_20.pth", trained(num_class=150).state_dict())
    assert refusal(lambda: load_weights(small_decoder(), file, part="decoder", arch="c1_deepsup")) == (
        f"{file} does not fit decoder 'c1_deepsup': 0 weights missing, 0 unknown, 4 of another shape "
        "(first: conv_last.weight is (150, 6, 1, 1), the model's is (11, 6, 1, 1)). "
        "It was trained with 150 classes, this model has 11. "
        "Set DATASET.num_class 150, or MODEL.reset_classifier True to train a new classifier on the rest."
    )


def test_another_width_is_not_taken_for_another_number_of_classes(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", trained(width=12).state_dict())
    message = refusal(lambda: load_weights(small_decoder(), file, part="decoder", arch="c1"))
    assert "cbr.0.weight is (12, 4, 3, 3), the model's is (6, 4, 3, 3)" in message
    assert "classes" not in message
    numbers = {"steps": torch.tensor(0.0)}
    net = nn.Module()
    net.register_buffer("steps", torch.zeros(1))
    file = saved(tmp_path / "y.pth", numbers)
    assert "steps is (), the model's is (1,)" in refusal(
        lambda: load_weights(net, file, part="decoder", arch="c1")
    )


def test_a_file_that_is_refused_changes_nothing_in_the_module(tmp_path: Path) -> None:
    weights = trained(num_class=11).state_dict()
    weights["conv_last_deepsup.bias"] = torch.zeros(12)  # the very last one
    file = saved(tmp_path / "x.pth", weights)
    net = small_decoder(num_class=11)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    refusal(lambda: load_weights(net, file, part="decoder", arch="c1"))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_classifier_behind_the_encoder_is_left_out_and_nothing_else(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(features=nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))))
    weights = {name: torch.full_like(value, 3) for name, value in net.state_dict().items()}
    heads = ("fc.weight", "classifier.1.bias", "features.18.0.weight", "incre_modules.0.0.conv1.weight")
    more = ("downsamp_modules.0.0.bias", "final_layer.0.weight")
    file = saved(tmp_path / "x.pth", weights | {name: torch.ones(1) for name in (*heads, *more)})
    load_weights(net, file, part="encoder", arch="resnet18")
    assert all(torch.all(value == 3) for value in net.state_dict().values())
    saved(file, weights | {"layer9.weight": torch.ones(1)})
    assert "encoder 'resnet18': 0 weights missing, 1 unknown (first: layer9.weight)" in refusal(
        lambda: load_weights(net, file, part="encoder", arch="resnet18")
    )


# Saving


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    history = {"train": {"epoch": [0.1, 0.2], "loss": [3.0, 2.5], "acc": [0.2, 0.3]}}
    save_atomically(history, tmp_path / "new" / "history_epoch_1.pth")
    assert read(tmp_path / "new" / "history_epoch_1.pth") == history
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("room", [0, 100, 5000, 20000])
def test_a_full_disk_leaves_the_old_file_and_says_so(room: int, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for the full disk
    file = tmp_path / "encoder_epoch_1.pth"
    save_atomically({"weight": torch.ones(3)}, file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(
            UserError, match=r"encoder_epoch_1.pth cannot be written: File too large"
        ) as error:
            save_atomically({"weight": torch.ones(30000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value).endswith(f"The folder is {tmp_path}. Make room there, or choose another folder.")
    assert torch.equal(read(file)["weight"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    save_atomically({"weight": torch.ones(3)}, tmp_path / "x.pth")
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_atomically({"weight": torch.ones(3), "why": lambda: 0}, tmp_path / "x.pth")
    assert torch.equal(read(tmp_path / "x.pth")["weight"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.pth"]
