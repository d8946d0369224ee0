"""TEST.output coco, cvat and labelme: what other readers and ``data prepare`` make of them."""

import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

NOISE = np.random.Generator(np.random.Philox(8)).integers(0, 256, (34, 46, 3)).astype(np.uint8)
NAMES = ["brick", "lawn", "pool"]
TOOLS = ("coco", "cvat", "labelme")


@pytest.fixture
def photos(tmp_path):
    """Photos of two sizes, one in a subfolder with a name that needs escapes."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(NOISE).save(folder / "a.png")
    Image.fromarray(np.rot90(NOISE).copy()).save(folder / "sub" / 'b & "ä".png')
    return folder


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def predicted(folder):
    """The labels that test.py wrote as PNG, by the name of the photo."""
    return {path.name.removesuffix("_labels.png"): read(path) for path in folder.rglob("*_labels.png")}


def imported(call, tool, source, out):
    """The labels that ``data prepare`` reads, as numbers of the model's classes."""
    outcome = call("data", "prepare", "auto", source, out)
    assert outcome.code == 0, outcome.err
    assert f"has the format {tool}" in outcome.out + outcome.err
    lines = (out / "classes.csv").read_text().splitlines()[1:]
    numbers = np.array([0] + [NAMES.index(line.split(",")[1]) + 1 for line in lines])
    found = {}
    for split in ("training", "validation"):
        for line in (out / f"{split}.odgt").read_text().splitlines():
            path = out / json.loads(line)["fpath_segm"]
            found[path.stem] = numbers[read(path)]
    return found


@pytest.mark.parametrize("simplify", [None, 0], ids=["masks", "polygons"])
def test_each_tool_gives_back_the_labels_pixel_by_pixel(call, segment, photos, tmp_path, simplify):
    words = [] if simplify is None else ["--simplify", simplify]
    if words:
        pytest.importorskip("cv2")
    outcome = segment(photos, *words, TEST__output="labels,coco,cvat,labelme")
    assert outcome.code == 0, outcome.err
    for tool in TOOLS if words else ():
        assert f"Polygons for {tool}: IoU 1.0000" in outcome.out
    want = predicted(tmp_path / "out")
    assert len(want) == 2
    for tool in TOOLS:
        source = tmp_path / f"source_{tool}"
        shutil.copytree(photos, source)
        for path in (tmp_path / "out").rglob("*"):
            own = path.suffix == ".xml" if tool == "cvat" else path.suffix == ".json"
            if path.is_file() and own and path.name.startswith("predictions_coco") == (tool == "coco"):
                shutil.copy(path, source / path.relative_to(tmp_path / "out"))
        if tool == "labelme":
            for path in source.rglob("*.json"):  # the photos are beside them now
                content = json.loads(path.read_text())
                path.write_text(json.dumps({**content, "imagePath": path.with_suffix(".png").name}))
        found = imported(call, tool, source, tmp_path / f"out_{tool}")
        assert found.keys() == want.keys()
        for name, labels in want.items():
            np.testing.assert_array_equal(found[name], labels, err_msg=f"{tool} {name}")


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_pycocotools_reads_the_file_with_the_predicted_pixels(segment, photos, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    segment(photos, TEST__output="labels,coco")
    want = predicted(tmp_path / "out")
    data = coco.COCO(tmp_path / "out" / "predictions_coco.json")
    assert [one["name"] for one in data.loadCats(data.getCatIds())] == NAMES
    assert sorted(one["file_name"] for one in data.imgs.values()) == ["a.png", 'sub/b & "ä".png']
    assert sorted(data.anns) == list(range(1, len(data.anns) + 1))
    for image in data.imgs.values():
        labels = np.zeros((image["height"], image["width"]), int)
        for one in data.loadAnns(data.getAnnIds(image["id"])):
            mask = data.annToMask(one) > 0
            labels[mask] = one["category_id"]
            assert one["area"] == mask.sum()
            left, top, width, height = one["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
        name = image["file_name"].split("/")[-1].removesuffix(".png")
        np.testing.assert_array_equal(labels, want[name])


def test_cvat_gets_its_labels_with_their_colours_and_numbered_images(segment, photos, tmp_path):
    segment(photos, TEST__output="cvat")
    root = ElementTree.parse(tmp_path / "out" / "predictions_cvat.xml").getroot()
    labels = root.findall("meta/task/labels/label")
    assert [label.findtext("name") for label in labels] == NAMES
    assert [label.findtext("color") for label in labels] == ["#c83c28", "#3cb43c", "#2850c8"]
    images = root.findall("image")
    assert [image.get("id") for image in images] == ["0", "1"]
    assert [image.get("name") for image in images] == ["a.png", 'sub/b & "ä".png']
    for mask in root.iter("mask"):
        runs = [int(run) for run in mask.get("rle").split(",")]
        assert sum(runs) == int(mask.get("width")) * int(mask.get("height"))


def test_simplified_polygons_cost_what_is_printed_and_are_imported(call, segment, photos, tmp_path):
    pytest.importorskip("cv2")
    Image.fromarray(NOISE[::-1]).resize((160, 120), Image.Resampling.BICUBIC).save(photos / "a.png")
    outcome = segment(photos / "a.png", "--simplify", "1.5", TEST__output="coco", out=photos)
    cost = float(outcome.out.split("Polygons for coco: IoU ")[1].split()[0])
    assert 0.3 < cost < 1
    found = call("data", "prepare", "coco", photos, tmp_path / "again", "--val-share", "0")
    assert found.code == 0, found.err


def test_simplify_without_a_labelling_tool_or_without_opencv_is_refused(
    segment, photos, tmp_path, monkeypatch
):
    outcome = segment(photos, "--simplify", "1", TEST__output="labels")
    assert (outcome.code, outcome.err) == (
        2,
        "--simplify is for the outputs coco, labelme, cvat. Set TEST.output to one of them.\n",
    )
    assert segment(photos, "--simplify", "-1", TEST__output="coco").code == 2
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    outcome = segment(photos, "--simplify", "1", TEST__output="coco")
    assert outcome.code == 2
    assert "pip install" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_resumed_run_completes_the_files_of_all_images(segment, photos, tmp_path):
    segment(photos, TEST__output="coco,cvat")
    whole = {
        name: (tmp_path / "out" / name).read_bytes()
        for name in ("predictions_coco.json", "predictions_cvat.xml")
    }
    (photos / "a.png").rename(tmp_path / "a.png")
    segment(photos, TEST__output="coco,cvat", out=tmp_path / "second")
    (tmp_path / "a.png").rename(photos / "a.png")
    again = segment(photos, "--resume", TEST__output="coco,cvat", out=tmp_path / "second")
    assert "Skipped 1 of 2 inputs" in again.out + again.err
    for name, content in whole.items():
        assert (tmp_path / "second" / name).read_bytes() == content
    assert not list((tmp_path / "second").glob(".*parts"))
    # A file that was deleted is made again.
    (tmp_path / "second" / "predictions_coco.json").unlink()
    segment(photos, "--resume", TEST__output="coco,cvat", out=tmp_path / "second")
    assert (tmp_path / "second" / "predictions_coco.json").read_bytes() == whole["predictions_coco.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_what_a_person_has_corrected_in_labelme_stays(segment, photos, resume):
    segment(photos, TEST__output="labelme", out=photos)
    path = photos / "a.json"
    content = json.loads(path.read_text())
    assert content["imagePath"] == "a.png"
    content["shapes"] = content["shapes"][1:]
    corrected = json.dumps(content)
    path.write_text(corrected)
    outcome = segment(photos, *(["--resume"] if resume else []), TEST__output="labelme", out=photos)
    assert outcome.code == 0, outcome.err
    assert "Kept 1 file of LabelMe" in outcome.out + outcome.err
    assert path.read_text() == corrected
    assert sorted(file.name for file in photos.rglob("*.json")) == ["a.json", 'b & "ä".json']


def test_two_photos_of_one_name_keep_their_folders_in_the_file(segment, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(NOISE[::-1]).save(other / "a.png")
    segment(photos / "a.png", other / "a.png", TEST__output="coco")
    content = json.loads((tmp_path / "out" / "predictions_coco.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    assert names == [str(photos / "a.png"), str(other / "a.png")]


def test_videos_have_no_such_output(segment, photos, tmp_path):
    outcome = segment(photos, "--uncertain", "1", TEST__output="coco")
    assert outcome.code == 0, outcome.err
    from mit_semseg.prediction.find_jobs import _without_outputs
    from mit_semseg.prediction.inputs import Inputs

    inputs = Inputs()
    inputs.add("a.mp4", "video")
    problems = _without_outputs(inputs, ["coco", "html"])
    assert "Videos have no output coco" in problems[0]
