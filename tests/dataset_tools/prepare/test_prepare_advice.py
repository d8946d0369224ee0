"""Whoever follows a message of `data prepare` ends with a dataset, or learns of another cause."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError
from mit_semseg.runtime.claim import claimed

SOFT = [0] * 40 + [255] * 40 + [10, 80, 150, 230]


def options(message):
    """The ways out that a message names: lists of words such as ``["--map", "0:1, 255:2"]``."""
    ways = re.findall(r": ((?:--[a-z-]+ (?:\"[^\"]+\"|[^\s.]+) ?)+)(?=[.\n]|$)", message)
    ways += re.findall(r"`mit-semseg data prepare folders \S+ \S+ (--[^`]+)`", message)
    return [shlex.split(way) for way in ways]


CODINGS = {
    "gray": lambda values: values,
    "gray as RGB": lambda values: np.stack([values] * 3, -1),
    "gray as RGBA": lambda values: np.stack([*[values] * 3, np.full_like(values, 255)], -1),
    "gray and alpha": lambda values: np.stack([values, np.full_like(values, 255)], -1),
    "gray palette": lambda values: values,
}


def source(tmp_path, make, values, names=None, coding="gray"):
    for k in range(3):
        make.image(tmp_path / "s" / "images" / f"{k}.jpg", (12, 8))
        path = tmp_path / "s" / "labels" / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        array = np.resize(np.array(values), (8, 12))
        image = Image.fromarray(CODINGS[coding](array.astype(np.uint16 if max(values) > 255 else np.uint8)))
        if coding == "gray palette":
            image.putpalette([gray for gray in range(256) for _ in range(3)])
        image.save(path)
    if names is not None:
        (tmp_path / "names").write_text("\n".join(names))
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0, 255], None),
        ([0, 255], ["background", "thing"]),
        ([0, 255], ["thing"]),
        ([0, 65535], None),
        ([0, 100], None),
        ([0, 127, 255], None),
        ([0, 127, 255], ["a", "b", "c"]),
        ([0, 20, 40, 255], None),
        ([0, 1, 2, 255], None),
        ([0, 1, 2, 255], ["background", "a", "b"]),
        ([0, 1, 2, 255], ["0: background", "1: a", "2: b"]),
        ([0, 1, 2, 7], ["a", "b"]),
        ([1, 2, 3], ["0: a", "1: b", "2: c"]),
        ([0, 1, 2], ["a", "b", "c"]),
        ([0, 1], None),
        ([1, 300, 1000], None),
        (SOFT, None),
        (SOFT, ["background", "thing"]),
    ],
)
def test_every_way_out_leads_on(prepare, tmp_path, make, values, names):
    follow_all(prepare, source(tmp_path, make, values, names), tmp_path, names)


@pytest.mark.parametrize("coding", list(CODINGS)[1:])
@pytest.mark.parametrize("values", [[0, 255], [0, 127, 255], [0, 1, 2, 255], SOFT], ids=str)
def test_every_way_out_leads_on_from_other_codings(prepare, tmp_path, make, values, coding):
    follow_all(prepare, source(tmp_path, make, values, coding=coding), tmp_path)


def follow_all(prepare, place, tmp_path, names=None):
    """Follow every option that a message names, until a dataset is written."""
    given = ["--names", tmp_path / "names"] if names else []
    ends = []

    def follow(words, met):
        try:
            prepare("folders", place, *given, *words)
            ends.append(words)
            return
        except UserError as error:
            message = str(error)
        assert message not in met, "\n".join([*met, message])
        assert len(met) < 5, met
        for way in options(message):
            follow([*words, *way], [*met, message])

    follow([], [])
    # A name may have to be added, which no option does.
    assert ends or names == ["thing"]
    assert [] not in ends


@pytest.mark.parametrize("kind", ["voc", "folders"])
def test_labels_of_colours_lead_to_the_format_that_reads_them(prepare, tmp_path, make, kind):
    colors = np.array([[0, 0, 0], [250, 50, 83], [50, 183, 250]], np.uint8)
    for k in range(3):
        make.image(tmp_path / "s" / "JPEGImages" / f"{k}.jpg")
        make.colored(tmp_path / "s" / "SegmentationClass" / f"{k}.png", colors[make.full([0, 1, 2])])
    table = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,50,83::\nroad:50,183,250::\n"
    (tmp_path / "s" / "labelmap.txt").write_text(table)
    with pytest.raises(UserError) as caught:
        prepare(kind, tmp_path / "s")
    found = re.search(r"`mit-semseg data prepare (\w+) (\S+) (\S+) --colors FILE`", str(caught.value))
    assert found.groups() == ("rgb", str(tmp_path / "s"), str(tmp_path / "out"))
    for words in ((), ("--colors", tmp_path / "s" / "labelmap.txt")):
        out = prepare("rgb", tmp_path / "s", *words)
        assert out.classes.names == ("background", "car", "road")
        assert out.label("1")[0].tolist() == [1, 2, 3, 1, 2, 3]


def test_gray_in_three_channels_leads_to_an_option(prepare, tmp_path, make):
    for k in range(3):
        make.image(tmp_path / "s" / "images" / f"{k}.jpg")
        make.colored(tmp_path / "s" / "labels" / f"{k}.png", np.stack([make.full([0, 1, 2])] * 3, -1))
    with pytest.raises(UserError, match=r"three equal channels .* --one-channel` reads one of them"):
        prepare("folders", tmp_path / "s")
    assert prepare("folders", tmp_path / "s", "--one-channel").label("0")[0, :3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["folders", "labelme", "voc", "coco-stuff", "cityscapes"])
def test_json_of_coco_is_named_where_a_format_is_not_found(prepare, tmp_path, make, kind):
    make.image(tmp_path / "s" / "train" / "a.jpg")
    (tmp_path / "s" / "train" / "_annotations.coco.json").write_text(
        '{"images": [], "annotations": [], "categories": []}'
    )
    (tmp_path / "s" / "other.json").write_text('{"images": []}')
    with pytest.raises(
        UserError, match=r"train/_annotations.coco.json is COCO's JSON, which the format coco reads"
    ):
        prepare(kind, tmp_path / "s")


def test_whoever_maps_the_values_of_mixed_labels_gets_those(prepare, tmp_path, make):
    source = tmp_path / "source"
    levels = np.clip(np.add.outer(np.arange(64) // 2, np.arange(96)) // 32, 0, 3).astype(np.uint8) * 80
    smooth = Image.fromarray(levels).resize((48, 32), Image.Resampling.NEAREST).resize((96, 64))
    for name in ("a", "b"):
        make.image(source / "images" / f"{name}.jpg", (96, 64))
        make.label(source / "labels" / f"{name}.png", smooth)
    with pytest.raises(UserError, match=r'mostly lie between(.|\n)*--map "V:K, \.\.\., \*:0"'):
        prepare("folders", source)
    out = prepare("folders", source, "--map", "0:1, 80:2, 160:3, 240:4, *:0")
    assert set(np.unique(out.label("a"))) == {0, 1, 2, 3, 4}


def test_zeros_that_only_the_default_makes_unlabelled_are_reported(prepare, tmp_path, make):
    source = tmp_path / "source"
    for name in ("a", "b"):
        make.image(source / "images" / f"{name}.jpg")
        make.label(source / "labels" / f"{name}.png", make.full([0, 1, 2]))
    hint = "The value 0 is unlabelled. If it is a class (the background): --label-offset 0."
    assert hint in prepare("folders", source).said
    assert hint not in prepare("folders", source, "--ignore", "0").said
    assert hint not in prepare("folders", source, "--label-offset", "0").said


def test_a_folder_that_another_run_writes_is_refused(prepare, tmp_path, make):
    source, out = tmp_path / "source", tmp_path / "out"
    for name in ("a", "b"):
        make.image(source / "images" / f"{name}.jpg")
        make.label(source / "labels" / f"{name}.png", make.full([1, 2]))
    with claimed(out, "prepared", "OUT"):
        (out / ".prepare.part").mkdir()
        with pytest.raises(
            UserError, match=r"out is being prepared by process \d+ .* set OUT to another folder"
        ):
            prepare("folders", source)
        assert (out / ".prepare.part").is_dir()  # it is the other run's
    assert len(prepare("folders", source).records("training")) == 1
    assert not (out / ".mit-semseg.lock").exists()
