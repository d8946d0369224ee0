import json
import pickle

import numpy as np
import pytest

from mit_semseg.data.classes import load_classes
from mit_semseg.errors import UserError

NAMES = [
    *("wall", "double door", "sky", "pot", "door"),
    "television receiver, television, television set, tv, tv set, idiot box, boob tube, telly, goggle box",
    *(f"filler {k}" for k in range(300)),
    *("building, edifice", "screen, crt screen"),
]
NUMBER = {name: number for number, name in enumerate(NAMES, 1)}


def seg(numbers):
    """R, G, B of a _seg.png; B counts instances."""
    numbers = np.asarray(numbers)
    return np.stack([numbers // 256 * 10, numbers % 256, np.arange(numbers.size).reshape(numbers.shape)], -1)


@pytest.fixture
def release(tmp_path, make):
    root = tmp_path / "ADE20K_2021_17_01"
    shown = [
        0,
        NUMBER["wall"],
        NUMBER["building, edifice"],
        NUMBER["pot"],
        NUMBER["door"],
        NUMBER["double door"],
    ]
    presence = np.zeros((len(NAMES), 3))
    for image, (split, scene, name) in enumerate(
        [
            ("training", "urban/street", "ADE_train_00016869"),
            ("training", "home_or_hotel/bathroom", "ADE_train_00001978"),
            ("validation", "urban/street", "ADE_val_00000001"),
        ]
    ):
        folder = root / "images" / "ADE" / split / scene
        make.image(folder / f"{name}.jpg")
        make.colored(folder / f"{name}_seg.png", seg(make.full(shown)))
        make.colored(folder / f"{name}_parts_1.png", seg(make.full([7])))
        make.label(folder / name / f"instance_000_{name}.png", make.full([255]))
        things = [
            {"id": k, "name": NAMES[number - 1], "name_ndx": number, "parts": {"part_level": 0}}
            for k, number in enumerate(shown)
            if number
        ]
        things.append({"id": 9, "name": "filler 0", "name_ndx": 7, "parts": {"part_level": 1}})
        (folder / f"{name}.json").write_text(json.dumps({"annotation": {"object": things}}))
        for number in shown[1 : 6 - image]:
            presence[number - 1, image] = 2
    parts = np.zeros_like(presence)
    parts[6] = presence[6] = 1
    index = {"objectnames": NAMES, "objectPresence": presence, "objectIsPart": parts, "filename": ["a"]}
    (root / "index_ade20k.pkl").write_bytes(pickle.dumps(index, protocol=4))
    return root


@pytest.mark.parametrize("names_from", ["index", "json"])
def test_objects_become_the_challenge_s_classes_by_their_names(prepare, release, names_from):
    if names_from == "json":
        (release / "index_ade20k.pkl").unlink()
    out = prepare("ade20k-full", release)
    # building has a number above 255, both doors are the class 15, a pot is no flowerpot
    assert out.label("ADE_train_00016869")[0].tolist() == [0, 1, 2, 0, 15, 15]
    assert out.classes.names == load_classes("", 150).names
    assert sorted(record["fpath_img"] for record in out.records("training")) == [
        "images/training/home_or_hotel/bathroom/ADE_train_00001978.jpg",
        "images/training/urban/street/ADE_train_00016869.jpg",
    ]
    assert len(out.records("validation")) == 1
    assert "kinds of objects are classes; the others are unlabelled" in out.said
    assert "floor, tree, ceiling, road, " in out.said
    assert "more, so these classes do not occur" in out.said
    assert max(map(len, out.said.splitlines())) < 300


def test_the_two_objects_that_are_called_otherwise_are_found(prepare, release, make):
    path = release / "images" / "ADE" / "training" / "urban" / "street" / "ADE_train_00016869_seg.png"
    tv = next(name for name in NAMES if name.startswith("television receiver"))
    make.colored(path, seg(make.full([NUMBER["screen, crt screen"], NUMBER[tv]])))
    table = load_classes("", 150)
    values = prepare("ade20k-full", release).label("ADE_train_00016869")[0, :2]
    assert [table.names[value - 1] for value in values] == ["crt screen", "television"]


@pytest.mark.parametrize("names_from", ["index", "json"])
def test_the_most_frequent_objects_can_be_the_classes(prepare, release, names_from):
    if names_from == "json":
        (release / "index_ade20k.pkl").unlink()
    out = prepare("ade20k-full", release, "--classes", 3)
    # by index, wall, building and pot are in 3 images (parts do not count); by JSON all are, the first win
    expected = ("wall", "pot", "building") if names_from == "index" else ("wall", "double door", "pot")
    assert out.classes.names == expected
    with pytest.raises(UserError, match=r"--classes is 200, but .* has 5 kinds"):
        prepare("ade20k-full", release, "--classes", 200)
    with pytest.raises(UserError, match="--classes is many; it should be scene-parsing, or a number"):
        prepare("ade20k-full", release, "--classes", "many")


def test_an_index_that_would_run_code_is_refused(prepare, release):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (release / "index_ade20k.pkl").write_bytes(pickle.dumps({"objectnames": Evil()}))
    with pytest.raises(UserError, match=r"index_ade20k.pkl is not the index .*it holds builtins.print"):
        prepare("ade20k-full", release)


def test_old_pickles_of_arrays_are_read(prepare, release):
    path = release / "index_ade20k.pkl"
    data = pickle.dumps(pickle.loads(path.read_bytes()), protocol=2)
    path.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert prepare("ade20k-full", release).label("ADE_train_00016869")[0].tolist() == [0, 1, 2, 0, 15, 15]


def test_without_names_it_says_so(prepare, release):
    for path in [*release.rglob("*.json"), release / "index_ade20k.pkl"]:
        path.unlink()
    with pytest.raises(UserError, match=r"neither index_ade20k.pkl nor JSON files"):
        prepare("ade20k-full", release)
