"""Checkpoint files, old and new: reading, loading all weights or none, and atomic saving."""

import io
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from small_models import refusal, same, small_decoder, trained
from torch import Tensor

from mit_semseg.errors import UserError
from mit_semseg.models.weights.checkpoint import (
    epoch_path,
    newest_epoch,
    read,
    save_atomically,
)
from mit_semseg.models.weights.fit import load_weights

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


def test_a_missing_file_is_reported_with_the_files_that_exist(tmp_path: Path) -> None:
    file = tmp_path / "encoder_epoch_20.pth"
    assert refusal(lambda: read(file)) == f"{file} does not exist. There is no .pth file in {tmp_path}."
    (tmp_path / "encoder_epoch_5.pth").touch()
    assert refusal(lambda: read(file)) == f"{file} does not exist. {tmp_path} holds encoder_epoch_5.pth."
    nowhere = tmp_path / "nowhere" / "x.pth"
    assert "There is no .pth file in" in refusal(lambda: read(nowhere))


def test_a_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    assert refusal(lambda: read(tmp_path)) == f"{tmp_path} cannot be read: Is a directory. Name another file."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes). Delete it, and download or save it again."),
        (
            b"<!DOCTYPE html>\n<html>Down for maintenance</html>",
            "is a web page, not a checkpoint: "
            "it begins with '<!DOCTYPE html> <html>Down for maintenance</html>'. "
            "Delete it, and download or save it again.",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
            "is a Git LFS pointer, not the file itself. Run in its folder: git lfs pull",
        ),
        (
            b"version 2",
            "is not a PyTorch checkpoint: it begins with 'version 2'. "
            "Name another file, or download it again.",
        ),
        (pickle.dumps({"a": 1}, 2), "is damaged, truncated, or not a PyTorch checkpoint (17 bytes)."),
        (b"\x80\x02" + bytes(1000), "is damaged, truncated, or not a PyTorch checkpoint (1002 bytes)."),
        (b"PK\x03\x04" + bytes(1000), "is truncated: after 1004 bytes the zip archive has no end."),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_reported_with_its_first_bytes(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "x.pth", content)
    message = refusal(lambda: read(file))
    assert message.startswith(f"{file} {reason}")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("photo.txt", "b.txt"),
            "a zip archive of 2 other files (first: photo.txt), not a PyTorch checkpoint.",
        ),
        (("a.npy", "b.npy"), "an .npz file of NumPy arrays, not a checkpoint. Save a dict of tensors with "),
        (
            ("run/a.txt", "run/a.pth"),
            "a zip archive that contains run/a.pth. Unpack it, and name the unpacked",
        ),
        (("m/data.pkl", "m/constants.pkl", "m/version"), "a TorchScript program, not a checkpoint. Save its"),
        (
            ("m/archive_format", "m/models/model.json"),
            "a program of torch.export, not a checkpoint. Save its ",
        ),
    ],
)
def test_a_zip_of_something_else_is_refused(names: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        for name in names:
            archive.writestr(name, "not a tensor")
    assert refusal(lambda: read(tmp_path / "x.pth")).startswith(f"{tmp_path / 'x.pth'} is {says}")


def test_the_command_for_a_torchscript_program_saves_its_weights(tmp_path: Path) -> None:
    file, net = tmp_path / "x.pth", small_decoder().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(net), file)
        command = refusal(lambda: read(file)).partition("Save its weights: ")[2]
        exec(command.replace("'weights.pth'", repr(str(tmp_path / "weights.pth"))), {"torch": torch})
    assert read(tmp_path / "weights.pth").keys() == net.state_dict().keys()


@pytest.mark.parametrize("use_zip", [True, False])
def test_a_file_truncated_anywhere_is_refused(use_zip: bool, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pth", trained().state_dict(), use_zip).read_bytes()
    for size in (*range(1, 300), *range(300, len(whole), len(whole) // 40)):
        message = refusal(lambda size=size: read(write(tmp_path / "x.pth", whole[:size])))
        assert str(tmp_path / "x.pth") in message
        assert size < 4 or f"{size} bytes" in message


def test_a_file_whose_bytes_have_changed_is_refused_wherever_they_are(tmp_path: Path) -> None:
    weights = {"weight": torch.arange(100.0)}
    whole = saved(tmp_path / "whole.pth", weights, use_zip=True).read_bytes()
    start = whole.index(weights["weight"].numpy().tobytes())
    for place in (start, start + 399):
        changed = bytearray(whole)
        changed[place] ^= 1
        message = refusal(lambda changed=changed: read(write(tmp_path / "x.pth", bytes(changed))))
        assert message == (
            f"{tmp_path / 'x.pth'} is damaged: the content of whole/data/0 does not match its checksum. "
            "Download or copy the file again, or use that of another epoch."
        )
    for place in range(0, len(whole), 7):  # also its names, sizes and list of entries
        changed = bytearray(whole)
        changed[place] ^= 255
        with suppress(UserError):
            found = read(write(tmp_path / "x.pth", bytes(changed)))
            assert torch.equal(found["weight"], weights["weight"])


def test_no_changed_bit_in_the_list_of_entries_changes_a_tensor(tmp_path: Path) -> None:
    """Some bits mark an entry as compressed or as a folder: torch then returns whatever was in memory."""
    weights = {"weight": torch.arange(40.0)}
    whole = saved(tmp_path / "whole.pth", weights).read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entry = whole.index(b"whole/data/0", archive.start_dir) - 46
    refused = 0
    for bit in range(8 * entry, 8 * (entry + 46)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = read(write(tmp_path / "x.pth", bytes(changed)))
        except UserError:
            refused += 1
        else:
            assert torch.equal(found["weight"], weights["weight"]), bit - 8 * entry
    assert refused > 100


def rewritten(file: Path, change: Callable[[zipfile.ZipInfo, bytes], bytes], kind: int = 0) -> Path:
    """The archive of a checkpoint, written again with other entries and right checksums."""
    with zipfile.ZipFile(file) as archive:
        entries = [(entry, change(entry, archive.read(entry))) for entry in archive.infolist()]
    with zipfile.ZipFile(file, "w", kind) as archive:
        for entry, content in entries:
            archive.writestr(entry.filename, content)
    return file


def test_a_storage_whose_size_is_not_that_of_its_tensor_is_refused(tmp_path: Path) -> None:
    weights = {"a": torch.arange(6), "weight": torch.arange(40.0)}
    file = saved(tmp_path / "x.pth", weights)
    assert torch.equal(read(rewritten(file, lambda entry, content: content))["weight"], weights["weight"])
    rewritten(file, lambda entry, content: content[:-40] if entry.filename == "x/data/1" else content)
    assert refusal(lambda: read(file)) == (
        f"{file} is damaged: its list of entries cannot be read (x/data/1 has 120 bytes, but its tensors "
        "need 160). Download or copy the file again, or use that of another epoch."
    )


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", {"weight": torch.arange(40.0)})
    rewritten(file, lambda entry, content: content, zipfile.ZIP_DEFLATED)
    assert "data.pkl cannot be read (it is marked as compressed or encrypted" in refusal(lambda: read(file))


@pytest.mark.parametrize("name", ["bool", "bfloat16", "uint16", "complex64", "float8_e4m3fn"])
def test_the_storages_of_any_type_have_the_size_of_their_tensors(name: str, tmp_path: Path) -> None:
    tensor = torch.arange(9).to(getattr(torch, name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(saved(tmp_path / "x.pth", {"a": tensor[2:4], "b": tensor[:0], "c": torch.zeros(0)}))
    assert found["a"].tolist() == tensor[2:4].tolist()


def test_a_file_saved_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.arange(100.0)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        assert not any(entry.CRC for entry in archive.infolist())
    assert torch.equal(read(tmp_path / "x.pth")["weight"], torch.arange(100.0))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code from a checkpoint has run')",))


@pytest.mark.parametrize("use_zip", [True, False])
def test_code_in_a_file_is_not_executed(use_zip: bool, tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", {"weight": Malicious()}, use_zip)
    assert refusal(lambda: read(file)).startswith(
        f"{file} holds a Python object of type exec, which could run code when it is loaded. "
        "Save the state_dict() of the model instead of the model. If you trust the file: "
    )


def test_a_pickled_model_is_refused_with_what_to_save(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", small_decoder())
    message = refusal(lambda: read(file))
    assert "torch.nn.modules.container.Sequential" in message
    (command,) = re.findall(r"If you trust the file: (.*), or with", message)
    exec(command.replace("'weights.pth'", repr(str(tmp_path / "weights.pth"))), {"torch": torch})
    assert read(tmp_path / "weights.pth").keys() == small_decoder().state_dict().keys()


def test_a_model_in_a_dict_is_saved_as_the_message_says(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", {"model": small_decoder(), "epoch": 1})
    message = refusal(lambda: read(file))
    (command, dictionary, model) = re.findall(
        r"trust the file: (.*), or with (\S+) in place of .state_dict\(\) .*, and (\S+) if it holds a model",
        message,
    )[0]
    assert dictionary == "['NAME']"
    command = command.replace(".state_dict()", model.replace("NAME", "model"))
    exec(command.replace("'weights.pth'", repr(str(tmp_path / "weights.pth"))), {"torch": torch})
    assert read(tmp_path / "weights.pth").keys() == small_decoder().state_dict().keys()


def test_numpy_arrays_and_numbers_are_read_but_no_code_in_them(tmp_path: Path) -> None:
    arrays = {
        kind: np.array([1, 2], kind) for kind in ("float32", "float64", "float16", "int64", "uint8", "bool")
    }
    names = np.array(["a", None], object)
    content = read(
        saved(tmp_path / "x.pth", {"best": np.float64(0.5), "state_dict": arrays, "names": names.astype(str)})
    )
    assert content["best"] == 0.5
    assert read(saved(tmp_path / "z.pth", names)).tolist() == ["a", None]
    for kind, array in arrays.items():
        np.testing.assert_array_equal(content["state_dict"][kind], array)
        assert content["state_dict"][kind].dtype == kind
    assert "could run code" in refusal(lambda: read(saved(tmp_path / "y.pth", np.array([Malicious()]))))


# Saving


def test_a_saved_object_is_read_back(tmp_path: Path) -> None:
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


def test_an_object_that_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    save_atomically({"weight": torch.ones(3)}, tmp_path / "x.pth")
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_atomically({"weight": torch.ones(3), "why": lambda: 0}, tmp_path / "x.pth")
    assert torch.equal(read(tmp_path / "x.pth")["weight"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.pth"]


def test_a_pickle_of_another_program_is_refused_without_a_warning(tmp_path: Path) -> None:
    file = write(tmp_path / "a.pth", pickle.dumps({"weights": [1.0]}, protocol=4))
    assert "is damaged, truncated, or not a PyTorch checkpoint" in refusal(lambda: read(file))
