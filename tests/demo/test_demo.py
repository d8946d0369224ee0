import ast
import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

from demo import COLORS, NAMES, Label, render_scene, write_dataset
from demo.__main__ import main
from demo.canvas import Canvas, rgb
from demo.car import CAR_MODELS, Car
from demo.light import pick_light
from demo.person import pick_person
from demo.scene_context import Camera, SceneContext, draw_objects
from mit_semseg.data.classes import load_classes
from mit_semseg.errors import UserError


@pytest.fixture(scope="module")
def scenes():
    return [render_scene([304, 0, index]) for index in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, num_train=4, num_val=3, seed=7)
    return folder


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def empty_scene(width=120, height=100, seed=0):
    rng = np.random.default_rng(seed)
    camera = Camera(focal=120.0, center=width / 2, horizon=height * 0.4, eye=1.8)
    return SceneContext(rng, camera, pick_light(rng), Canvas(width, height))


def test_a_point_is_projected_by_similar_triangles():
    camera = Camera(focal=100.0, center=50.0, horizon=40.0, eye=2.0)
    pixels = camera.project(np.array([[1.0, 0.0, 10.0], [0.0, 2.0, 25.0]]))
    np.testing.assert_allclose(pixels, [[60, 60], [50, 40]])
    assert camera.row_depth(np.array([60.0])) == 10


def test_an_edge_inside_a_pixel_is_blended_in_the_picture_and_sharp_in_the_labels():
    canvas = Canvas(4, 2)
    half = np.array([[1.4, -1], [5, -1], [5, 3], [1.4, 3]])
    canvas.polygon(half, (240, 0, 0), Label.CAR)
    np.testing.assert_array_equal(canvas.labels(), [[0, 7, 7, 7]] * 2)
    red = canvas.picture()[..., 0]
    assert red[0, 0] == 0
    assert 0 < red[0, 1] < 240
    assert (red[:, 2:] == 240).all()


def test_labels_and_picture_have_the_same_edges():
    canvas = Canvas(64, 64)
    angle = np.linspace(0, 2 * np.pi, 30)[:-1]
    blob = np.stack([32 + 21.3 * np.cos(angle), 30 + 17.7 * np.sin(angle)], axis=1)
    canvas.polygon(blob, (200, 200, 200), Label.TREE)
    canvas.line(np.array([[3.2, 4.1], [50.0, 60.0]]), 3.0, (200, 200, 200), Label.TREE)
    covered = canvas.picture()[..., 0] / 200
    drawn = canvas.labels() == Label.TREE
    assert covered[drawn].min() > 0.3
    assert covered[~drawn].max() < 0.7


def test_nearer_objects_hide_farther_ones():
    scene = empty_scene()
    car = Car(0.0, 12.0, np.pi / 2, CAR_MODELS[0], rgb(200, 20, 20))
    person = pick_person(scene.rng, 0.0, 6.0)
    draw_objects(scene, [car])
    behind = scene.canvas.labels() == Label.CAR
    draw_objects(scene, [person, car])
    label = scene.canvas.labels()
    assert (label[behind] == Label.PERSON).any()
    alone = empty_scene()
    draw_objects(alone, [person])
    np.testing.assert_array_equal(label == Label.PERSON, alone.canvas.labels() == Label.PERSON)


def test_an_object_twice_as_far_away_is_half_as_high():
    def rows(z):
        scene = empty_scene(200, 200)
        draw_objects(scene, [Car(0.0, z, np.pi / 2, CAR_MODELS[0], rgb(200, 20, 20))])
        return (scene.canvas.labels() == Label.CAR).any(axis=1).sum()

    assert rows(8.0) == pytest.approx(2 * rows(16.0), rel=0.12)


def test_every_class_occurs_in_a_third_of_the_scenes_or_more(scenes):
    seen = np.zeros(len(NAMES) + 1)
    for _, label in scenes:
        seen += np.bincount(label.ravel(), minlength=len(NAMES) + 1) > 20
    assert (seen[1:] >= len(scenes) / 3).all(), dict(zip(NAMES, seen[1:], strict=True))


def test_almost_everything_is_labelled(scenes):
    unlabelled = np.mean([(label == Label.UNLABELLED).mean() for _, label in scenes])
    assert 0 < unlabelled < 0.03


def test_scenes_come_in_both_formats_and_several_sizes(scenes):
    shapes = {label.shape for _, label in scenes}
    assert len({min(shape) for shape in shapes}) >= 4
    assert any(height > width for height, width in shapes)
    assert any(height < width for height, width in shapes)
    assert min(map(min, shapes)) >= 96
    assert max(map(max, shapes)) <= 216


def test_pictures_are_textured_and_labels_fit_them(scenes):
    for image, label in scenes:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == (*label.shape, 3)
        assert label.max() <= len(NAMES)
        for value in np.unique(label[label > 0]):
            assert image[label == value].std() > 1


def test_the_ground_is_below_the_sky(scenes):
    for _, label in scenes:
        rows = np.mgrid[: label.shape[0], : label.shape[1]][0]
        if (label == Label.SKY).sum() > 20:
            assert rows[label == Label.SKY].mean() < rows[label == Label.GROUND].mean()


def test_the_lists_name_the_files_and_their_sizes(folder):
    for split, count in (("training", 4), ("validation", 3)):
        lines = [json.loads(line) for line in (folder / f"{split}.odgt").read_text().splitlines()]
        assert len(lines) == count
        for line in lines:
            with (
                Image.open(folder / line["fpath_img"]) as image,
                Image.open(folder / line["fpath_segm"]) as label,
            ):
                assert (image.format, image.mode) == ("JPEG", "RGB")
                assert (label.format, label.mode) == ("PNG", "L")
                assert image.size == label.size == (line["width"], line["height"])


def test_a_config_can_load_the_class_table(folder):
    table = load_classes(folder / "classes.csv", num_class=8)
    assert table.names == ("sky", "ground", "road", "water", "building", "tree", "car", "person")
    np.testing.assert_array_equal(table.colors, COLORS)
    assert (folder / "classes.csv").read_text().startswith("index,name,red,green,blue\n1,sky,120,190,240\n")


def test_training_and_validation_share_no_scene(folder):
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.jpg")]
    assert len(set(digests)) == len(digests) == 7


def test_the_same_seed_gives_the_same_bytes_in_another_process(folder, tmp_path):
    command = [sys.executable, "-m", "demo", str(tmp_path / "again")]
    command += ["--train", "4", "--val", "3", "--seed", "7"]
    subprocess.run(
        command, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "12"}, capture_output=True
    )
    assert content(tmp_path / "again") == content(folder)


def test_another_seed_gives_other_scenes():
    one, other = render_scene(1)[0], render_scene(2)[0]
    assert one.shape != other.shape or (one != other).any()


def test_a_scene_does_not_depend_on_the_number_of_scenes(folder, tmp_path):
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    whole, part = content(folder), content(tmp_path)
    for name in part:
        if name.endswith((".jpg", ".png")):
            assert part[name] == whole[name]


def test_writing_the_same_dataset_again_changes_no_file(tmp_path):
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_interrupted_folder_is_completed(tmp_path):
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    before = content(tmp_path)
    (tmp_path / "toy.json").unlink()
    (tmp_path / "validation.odgt").unlink()
    (tmp_path / "annotations/training/scene_00001.png").write_bytes(b"")
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    assert content(tmp_path) == before


def test_a_missing_picture_is_rendered_again(tmp_path):
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    (tmp_path / "images/training/scene_00001.jpg").unlink()
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    assert (tmp_path / "images/training/scene_00001.jpg").is_file()


def test_other_arguments_replace_the_lists(tmp_path):
    write_dataset(tmp_path, num_train=2, num_val=1, seed=7)
    write_dataset(tmp_path, num_train=1, num_val=1, seed=8)
    assert len((tmp_path / "training.odgt").read_text().splitlines()) == 1


def test_a_file_that_blocks_the_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("a note")
    with pytest.raises(UserError, match=r"taken.* cannot be written: "):
        write_dataset(tmp_path / "taken", num_train=1, num_val=1)
    assert (tmp_path / "taken").read_text() == "a note"
    (tmp_path / "half").mkdir()
    (tmp_path / "half/annotations").write_text("a note")
    with pytest.raises(UserError, match=r"scene_00000\.png cannot be written: "):
        write_dataset(tmp_path / "half", num_train=1, num_val=1)
    assert not (tmp_path / "half/toy.json").exists()


@pytest.mark.parametrize(("name", "value"), [("num_train", 0), ("num_val", -1), ("seed", -5)])
def test_invalid_numbers_are_rejected_with_their_value(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
        write_dataset(tmp_path, **{"num_train": 1, "num_val": 1, "seed": 0, name: value})


def test_the_command_reports_what_it_wrote(tmp_path, capsys):
    assert main([str(tmp_path / "toy"), "--train", "1", "--val", "1", "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'toy'}: 1 training and 1 validation scenes, seed 3.\n"


def test_the_command_exits_with_2_if_it_cannot_write(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main([str(tmp_path / "taken"), "--train", "1", "--val", "1"]) == 2
    error = capsys.readouterr().err
    assert "taken" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("flag", ["--train", "--val", "--seed"])
def test_the_command_rejects_numbers_below_the_minimum(tmp_path, capsys, flag):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), flag, "-1"])
    assert stop.value.code == 2
    assert f"argument {flag}: '-1' is not an integer of " in capsys.readouterr().err


def test_rendering_does_not_import_torch():
    code = "import sys, demo.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_package_does_not_import_the_demo():
    for path in (ROOT / "mit_semseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            assert not [name for name in names if name.split(".")[0] == "demo"], f"{path}:{node.lineno}"


def test_the_wheel_does_not_contain_the_demo():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    packages = re.findall(r'"([\w.]+)"', listed)
    assert "mit_semseg" in packages
    assert {name.split(".")[0] for name in packages} == {"mit_semseg"}
