"""The manifest says from which input each file of an output folder was made, and how."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from mit_semseg.errors import UserError
from mit_semseg.prediction.inputs import Input
from mit_semseg.prediction.manifest import Manifest
from mit_semseg.runtime.files import state_of

HOW = {"TEST.legend": False}


def image(path):
    return Input(str(path), "image", Path(Path(path).name))


@pytest.fixture
def record(tmp_path):
    """``record(input, output=name)`` makes files in ``tmp_path / "out"`` and adds them to its manifest."""
    folder = tmp_path / "out"
    folder.mkdir()

    def add(name, how=HOW, state=(5, 7), **files):
        targets = {output: folder / file for output, file in files.items()}
        for path in targets.values():
            path.write_text(f"{name} in {path}")
        Manifest(folder).add(image(tmp_path / name), list(state), how, targets)

    return add


def made(folder):
    """The outputs of each input that the manifest names."""
    names = set()
    for file in (folder / "out").glob(".m*.jsonl"):
        names |= set(re.findall(r'"input": "([^"]*)"', file.read_text()))
    with Manifest(folder / "out").recorded() as recorded:
        outputs = {name: recorded.of(name) for name in names}
    return {name: found for name, found in outputs.items() if found}


def found(tmp_path):
    """The names of the outputs of each input."""
    return {
        os.path.relpath(source, tmp_path): {output: each.path.name for output, each in outputs.items()}
        for source, outputs in made(tmp_path).items()
    }


def test_outputs_belong_to_their_inputs_until_they_are_deleted(record, tmp_path):
    record("a.jpg", overlay="a_overlay.png", labels="a_labels.png")
    record("sub/a.jpg", labels="a_segmented_labels.png")
    first = {"overlay": "a_overlay.png", "labels": "a_labels.png"}
    assert found(tmp_path) == {"a.jpg": first, "sub/a.jpg": {"labels": "a_segmented_labels.png"}}
    (tmp_path / "out" / "a_overlay.png").unlink()
    assert found(tmp_path)["a.jpg"] == {"labels": "a_labels.png"}


def test_an_output_belongs_to_the_latest_input_that_it_was_made_from(record, tmp_path):
    record("a.jpg", labels="a_labels.png")
    record("b/a.jpg", labels="a_labels.png")
    assert found(tmp_path) == {"b/a.jpg": {"labels": "a_labels.png"}}


def test_torn_lines_are_ignored_and_do_not_spoil_the_next_one(record, tmp_path):
    record("a.jpg", labels="a_labels.png")
    file = tmp_path / "out" / ".manifest.jsonl"
    file.write_bytes(file.read_bytes()[:-9] + b'\n7\n"settings"\n[]\n{"input": "')
    assert found(tmp_path) == {}
    record("b.jpg", labels="b_labels.png")
    assert found(tmp_path) == {"b.jpg": {"labels": "b_labels.png"}}


@pytest.mark.parametrize(
    "change",
    [
        {"input": 5},
        {"outputs": []},
        {"outputs": {"overlay": 3}},
        {"outputs": {"overlay": "../b.png"}},
        {"outputs": {"overlay": "/tmp/b.png"}},
        {"outputs": {"overlay": "."}},
        {"files": {"overlay": None}},
        {"files": {"overlay": ["x", "y"]}},
        {"fingerprint": {}},
        {"state": [1, "x"]},
        {"cards": {"a": 1}},
        {"cards": "coco"},
        {"problem": None},
    ],
)
def test_lines_with_other_kinds_of_values_are_ignored(change, record, tmp_path):
    record("a.jpg", overlay="a_overlay.png")
    manifest = tmp_path / "out/.manifest.jsonl"
    line = json.loads(manifest.read_text().splitlines()[-1])
    (tmp_path / "b.png").write_text("of somebody")
    with manifest.open("a") as file:
        file.write(f"\n{'[' * 5000}\n{json.dumps({**line, 'input': 'b.jpg', **change})}\n")
    assert found(tmp_path) == {"a.jpg": {"overlay": "a_overlay.png"}}


def test_each_output_says_how_it_was_made(record, tmp_path):
    record("a.jpg", labels="a_labels.png", overlay="a_overlay.png")
    record("a.jpg", how={"TEST.legend": True}, state=(6, 8), overlay="a_overlay.png")
    (outputs,) = made(tmp_path).values()
    assert (outputs["labels"].fingerprint, outputs["labels"].source) == (HOW, [5, 7])
    assert (outputs["overlay"].fingerprint, outputs["overlay"].source) == ({"TEST.legend": True}, [6, 8])


def test_the_settings_are_written_once_for_all_inputs_of_a_run(tmp_path):
    manifest = Manifest(tmp_path)
    for name in "abc":
        manifest.add(image(name), [1, 2], HOW, {})
    assert (tmp_path / ".manifest.jsonl").read_text().count("TEST.legend") == 1


def test_an_output_is_intact_as_long_as_its_content_is_the_same(record, tmp_path):
    record("a.jpg", labels="a_labels.png")
    file = tmp_path / "out" / "a_labels.png"

    def is_intact(folder=tmp_path):
        ((output,),) = (outputs.values() for outputs in made(folder).values())
        return output.is_intact()

    assert is_intact()
    os.utime(file, (0, 0))  # as a copy may have it
    assert is_intact()
    content = file.read_bytes()
    for damaged in (content[:-1], content[::-1], b""):
        file.write_bytes(damaged)
        assert not is_intact()
    file.write_bytes(content)
    shutil.copytree(tmp_path / "out", tmp_path / "copy" / "out")
    assert is_intact(tmp_path / "copy")


def test_the_manifests_of_earlier_releases_are_read_but_newer_lines_win(record, tmp_path):
    folder = tmp_path / "out"
    for name in ("a_labels.png", "b_labels.png", "d_labels.png"):
        (folder / name).touch()

    def line(name):
        outputs = {"labels": f"{name}_labels.png"}
        return json.dumps({"input": str(tmp_path / f"{name}.jpg"), "outputs": outputs}) + "\n"

    (folder / ".made.jsonl").write_text(line("a") + line("b"))  # release 2.0
    (folder / ".manifest.jsonl").write_text(line("d"))
    record("c/a.jpg", labels="a_labels.png")
    assert found(tmp_path) == {
        "b.jpg": {"labels": "b_labels.png"},
        "c/a.jpg": {"labels": "a_labels.png"},
        "d.jpg": {"labels": "d_labels.png"},
    }
    how = {os.path.relpath(source, tmp_path): each["labels"] for source, each in made(tmp_path).items()}
    assert (how["b.jpg"].fingerprint, how["b.jpg"].source) == (None, None)
    assert how["c/a.jpg"].fingerprint == HOW


def test_a_file_that_changes_has_another_state(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    before = state_of(tmp_path / "a")
    assert before == state_of(tmp_path / "a")
    os.utime(tmp_path / "a", ns=(0, before[1] + 1))
    assert state_of(tmp_path / "a") != before
    assert state_of(tmp_path / "gone") is None


def test_a_manifest_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"out/\.manifest\.jsonl cannot be written"):
        Manifest(tmp_path / "out").add(image("a.jpg"), None, HOW, {})
