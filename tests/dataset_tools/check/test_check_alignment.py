"""data check: labels mirrored or shifted against their images, and images that look alike in two lists."""

import argparse
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from demo.dataset import write_dataset
from mit_semseg.dataset_tools.check.alignment import (
    REACH,
    agreement,
    common_move,
    describe_move,
    mirror_of,
    move_of,
    small_borders,
    small_gray,
)
from mit_semseg.dataset_tools.check.command import add_arguments, run
from mit_semseg.dataset_tools.check.near_duplicates import appearance_hash, near_pairs

SCENES = 10


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(folder, SCENES, 4, seed=5)
    return folder


def pairs(folder, split="training"):
    for line in (folder / f"{split}.odgt").read_text().splitlines():
        record = json.loads(line)
        with (
            Image.open(folder / record["fpath_img"]) as image,
            Image.open(folder / record["fpath_segm"]) as label,
        ):
            yield image.convert("RGB"), np.array(label)


def moved(label, right, down):
    """The label with its content moved."""
    result = np.zeros_like(label)
    height, width = label.shape
    to = np.s_[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    of = np.s_[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
    result[to] = label[of]
    return result


def found(image, label):
    return agreement(small_gray(image), small_borders(label), max(image.size) / 192)


def test_labels_that_fit_are_not_reported(scenes):
    for image, label in pairs(scenes):
        about = found(image, label)
        assert mirror_of(about) == ""
        assert move_of(about) is None


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("left to right", lambda label: label[:, ::-1]),
        ("top to bottom", lambda label: label[::-1]),
        ("by half a turn", lambda label: label[::-1, ::-1]),
    ],
)
def test_mirrored_labels_are_recognized_with_how_they_are_mirrored(scenes, name, mirror):
    said = [mirror_of(found(image, mirror(label))) for image, label in pairs(scenes)]
    assert said.count(name) >= SCENES - 1
    assert set(said) <= {name, ""}


@pytest.mark.parametrize(("right", "down"), [(20, 0), (-14, 10), (0, -16)])
def test_shifted_labels_are_recognized_with_the_way_back(scenes, right, down):
    moves = [move_of(found(image, moved(label, right, down))) for image, label in pairs(scenes)]
    known = [move for move in moves if move]
    assert len(known) >= SCENES // 2
    across, along = np.median(known, axis=0)
    assert abs(across + right) <= 4
    assert abs(along + down) <= 4


def test_a_small_shift_of_all_labels_shows_in_their_mean(scenes):
    maps, scales = [], []
    for image, label in pairs(scenes):
        about = found(image, moved(label, 5, 0))
        maps.append(about.moved.astype(float))
        scales.append(about.scale)
    move = common_move(np.mean(maps, 0), len(maps), float(np.mean(scales)))
    assert move is not None
    assert abs(move[0] + 5) <= 2
    assert move[1] == 0
    assert common_move(np.mean(maps, 0), 3, 1.0) is None  # too few to say


def test_by_hand_a_square_and_its_label_beside_it():
    rng = np.random.Generator(np.random.Philox(1))
    pixels = rng.integers(90, 110, (192, 192)).astype(np.uint8)
    pixels[60:120, 50:100] = 230
    label = np.zeros((192, 192), np.uint8)
    label[60:120, 62:112] = 1
    about = agreement(small_gray(Image.fromarray(pixels)), small_borders(label), 1.0)
    assert move_of(about) == (-12, 0)
    assert about.moved.shape == (2 * REACH + 1, 2 * REACH + 1)
    assert describe_move((-12, 0)) == "12 pixels to the left"


def test_nothing_is_said_of_flat_images_and_labels_without_borders():
    flat = np.full((192, 192), 7, np.uint8)
    label = np.zeros((192, 192), np.uint8)
    assert agreement(flat, small_borders(label), 1.0) is None
    label[50:90, 40:80] = 1
    assert agreement(flat, small_borders(label), 1.0) is None
    assert agreement(flat[:100], small_borders(label), 1.0) is None


def variants(image):
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=40)
    yield Image.open(file)
    yield image.resize((image.width // 2, image.height // 2))
    yield ImageEnhance.Contrast(image).enhance(0.8)
    yield image.convert("L")
    cut = image.width // 100
    yield image.crop((cut, cut, image.width - cut, image.height - cut))


def test_changed_copies_are_near_and_other_scenes_are_not(scenes):
    images = [image for image, _ in pairs(scenes)]
    hashes = [np.frombuffer(appearance_hash(small_gray(image)), np.uint8) for image in images]
    distance = np.unpackbits(np.array(hashes)[:, None] ^ np.array(hashes)[None], axis=2).sum(2)
    assert distance[~np.eye(len(images), dtype=bool)].min() > 14
    others = np.array(hashes)
    for number, image in enumerate(images):
        copies = [np.frombuffer(appearance_hash(small_gray(copy)), np.uint8) for copy in variants(image)]
        assert list(near_pairs(np.array(copies), others)) == [(k, number) for k in range(len(copies))]
    assert appearance_hash(np.full((20, 20), 9, np.uint8)) == b""
    assert list(near_pairs(np.zeros((2, 16), np.uint8), np.zeros((2, 16), np.uint8))) == []


def test_the_command_names_them_as_notes(scenes, tmp_path, capsys):
    records = {}
    for split in ("training", "validation"):
        lines = (scenes / f"{split}.odgt").read_text().splitlines()
        records[split] = [json.loads(line) for line in lines]
        for record in records[split]:
            for key in ("fpath_img", "fpath_segm"):
                target = tmp_path / record[key]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((scenes / record[key]).read_bytes())
    mirrored, shifted = records["training"][:2]
    for record, change in ((mirrored, lambda x: x[:, ::-1]), (shifted, lambda x: moved(x, 24, 0))):
        with Image.open(tmp_path / record["fpath_segm"]) as image:
            label = np.array(image)
        Image.fromarray(change(label)).save(tmp_path / record["fpath_segm"])
    with Image.open(tmp_path / records["training"][2]["fpath_img"]) as image:
        image.save(tmp_path / "copy.jpg", quality=60)
    copied = {**records["training"][2], "fpath_img": "copy.jpg"}
    (tmp_path / "copied.png").write_bytes((tmp_path / copied["fpath_segm"]).read_bytes())
    records["validation"].append({**copied, "fpath_segm": "copied.png"})
    for split, ones in records.items():
        (tmp_path / f"{split}.odgt").write_text("".join(json.dumps(one) + "\n" for one in ones))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = [str(tmp_path / f"{split}.odgt") for split in ("training", "validation")]
    report = tmp_path / "report.json"
    code = run(parser.parse_args([*words, "--workers", "0", "--num-class", "8", "--json", str(report)]))
    text = capsys.readouterr().out
    notes = {note["kind"]: note for note in json.loads(report.read_text())["notes"]}
    assert code == 0, text
    assert [place["label"] for place in notes["mirrored"]["places"]] == [mirrored["fpath_segm"]]
    assert notes["mirrored"]["places"][0]["detail"] == "mirrored left to right, it fits its image better"
    assert [place["label"] for place in notes["moved"]["places"]] == [shifted["fpath_segm"]]
    assert "to the left" in notes["moved"]["places"][0]["detail"]
    (near,) = notes["near_duplicate"]["places"]
    assert (near["image"], near["other"]["image"]) == ("copy.jpg", copied_from(records))
    assert "Labels that may be mirrored against their image: 1" in text


def copied_from(records):
    return records["training"][2]["fpath_img"]
