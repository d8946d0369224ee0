"""COCO instances, as COCO and Roboflow write them: classes, crowds, splits, and what is wrong with a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mit_semseg.data import rle
from mit_semseg.errors import UserError

SAMPLE = Path(__file__).resolve().parents[4].parent / "shared/data/coco_sample"
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 1, "name": "road"}]


def polygon(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(segmentation, category=1, image=1, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


@pytest.fixture
def write(tmp_path, make):
    """``write([...])``: images a.jpg (id 1) and b.jpg (id 2) of 6 x 4 pixels, and a JSON file about them."""
    source = tmp_path / "s"

    def run(annotations, categories=CATEGORIES, file="annotations/instances.json", images=None, **more):
        images = images or {1: "a.jpg", 2: "b.jpg"}
        for name in images.values():
            make.image(source / "images" / name)
        content = {
            "images": [
                {"id": k, "file_name": name, "width": 6, "height": 4, **more} for k, name in images.items()
            ],
            "annotations": [{"id": 10 + k, **one} for k, one in enumerate(annotations)],
            "categories": categories,
        }
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text(json.dumps(content))
        return source

    return run


BOTH = [annotation(polygon(0, 0, 6, 4)), annotation(polygon(0, 0, 6, 4), category=3, image=2)]


def rows(label):
    return ["".join(map(str, row)) for row in label]


def test_polygons_masks_and_crowds_become_one_label(prepare, write):
    hole = np.ones((4, 6), bool)
    hole[1:3, 1:3] = False
    runs = {"size": [4, 6], "counts": rle.encode(hole).tolist()}
    crowd = np.zeros((4, 6), bool)
    crowd[3, 2:] = True
    text = {"size": [4, 6], "counts": rle.to_text(rle.encode(crowd))}
    source = write(
        [
            annotation(runs),
            annotation([*polygon(4, 0, 6, 1), *polygon(1, 1, 2, 2)], category=3),
            annotation(text, category=3, iscrowd=1),
            annotation(polygon(0, 0, 6, 4), image=2),
        ]
    )
    out = prepare("coco", source)
    assert out.classes.names == ("road", "car")
    assert rows(out.label("a")) == ["111122", "120111", "100111", "110000"]
    assert "category ids go from 1 to 3 with gaps (2); classes are numbered without gaps" in out.said
    assert "so training ignores them; --background makes them a class." in out.said
    out = prepare("coco", source, "--background", "--overlap", "smaller")
    assert out.classes.names == ("background", "road", "car")
    assert rows(out.label("a")) == ["222233", "231222", "211222", "220000"]


def test_the_rule_decides_which_of_two_shapes_is_seen(prepare, write):
    small, large = annotation(polygon(1, 1, 3, 3), category=3), annotation(polygon(0, 0, 6, 4))
    source = write([small, large, BOTH[1]])
    assert (prepare("coco", source).label("a") == 1).all()
    label = prepare("coco", source, "--overlap", "smaller").label("a")
    assert (label[1:3, 1:3] == 2).all()
    assert (label == 2).sum() == 4


def test_splits_come_from_folders_and_file_names(prepare, write):
    write(
        BOTH, file="annotations/instances_train2017.json", images={1: "train2017/a.jpg", 2: "train2017/b.jpg"}
    )
    write(BOTH, file="annotations/person_keypoints_train2017.json",
          categories=[{"id": 1, "name": "person", "keypoints": ["nose"]}])  # fmt: skip
    source = write(BOTH, file="annotations/instances_val2017.json", images={1: "val2017/a.jpg", 2: "c.jpg"})
    out = prepare("coco", source)
    assert (out.names("training"), out.names("validation")) == (["a", "b"], ["c", "a"])
    assert "person_keypoints_train2017.json is omitted, because it holds keypoints." in out.said


def test_odd_categories_are_named(prepare, write):
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 1, "name": "road", "supercategory": "things"},
        {"id": 3, "name": "", "supercategory": "things"},
        {"id": 4, "name": "road", "supercategory": "things"},
    ]
    out = prepare("coco", write([*BOTH, annotation(polygon(0, 0, 1, 1), category=4)], categories))
    assert out.classes.names == ("road", "category 3")
    assert 'category 0, "things", only groups the others, and is not a class.' in out.said
    assert "categories without a name are called by their ids: 3." in out.said
    assert 'categories whose name occurs before belong to the same class: 4 ("road").' in out.said
    assert "gaps (2)" in out.said


def test_all_that_is_wrong_is_named_in_one_run_and_the_rest_is_read(prepare, write, make):
    bad = [
        annotation({"size": [5, 6], "counts": [30]}),
        annotation({"size": [4, 6], "counts": [23]}, image=2),
        annotation([[0, 0, 1, 1]], image=3),
        annotation(polygon(0, 0, 1, 1), category=9, image=4),
        annotation([[0, 0, "x", 1, 3, 3]], image=5),
        annotation(polygon(0, 0, 1, 1), image=99),
        annotation(polygon(0, 0, 6, 4), image=6),
        annotation(polygon(0, 0, 3, 4), image=6, category=3),
    ]
    images = dict(enumerate(("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg"), 1))
    source = write(bad, images=images)
    (source / "images" / "g.jpg").unlink()
    (source / "more").mkdir()
    (source / "more" / "coco.json").write_text('{"images": [], "annotations": [], "categories": [')
    with pytest.raises(UserError) as raised:
        prepare("coco", source)
    assert "8 of 9 images or labels cannot be used" in str(raised.value)
    out = prepare("coco", source, "--skip-bad")
    where = f"{source / 'annotations' / 'instances.json'}: "
    for says in (
        "annotation 10 has run lengths of 6 x 5 pixels, but its image has 6 x 4, image images/a.jpg.",
        "annotation 11 has run lengths that cannot be read: they have 23 pixels, but the mask has 24",
        "annotation 12 is a polygon of 2 points; it needs three",
        "annotation 13 has the category_id 9, which is not a category",
        "annotation 14 has points that are not pairs of numbers",
        "annotation 15: the file lists no image with the id 99.",
    ):
        assert where + says in out.said
    assert f"{where[:-2]} lists g.jpg, which is not there." in out.said
    assert "coco.json is not JSON (" in out.said
    assert out.names("training") + out.names("validation") == ["f"]


def test_what_is_cut_off_or_crosses_itself_is_counted(prepare, write):
    source = write(
        [
            *BOTH,
            annotation(polygon(-4, 0, 2, 2), category=3),
            annotation(polygon(50, 50, 60, 60), category=3),
            annotation([[0, 0, 6, 4, 6, 0, 0, 4]], category=3, image=2),
            annotation([], category=3, image=2, bbox=[0, 0, 1, 1]),
        ]
    )
    out = prepare("coco", source)
    file = source / "annotations" / "instances.json"
    assert f"cut off there: 2 ({file}: shape 2 of images/a.jpg, " in out.said
    assert f"is outside (even-odd rule): 1 ({file}: shape 2 of images/b.jpg)." in out.said
    assert "Without an area, and so omitted: 1 of the kind box without segmentation." in out.said
    assert rows(out.label("a"))[:2] == ["221111", "221111"]


def test_what_is_cut_off_or_crosses_itself_is_also_named_beside_problems(prepare, write):
    bow_tie = [[0, 0, 4, 4, 4, 0, 0, 4]]
    source = write(
        [
            annotation(polygon(0, 0, 9, 4)),
            annotation(bow_tie),
            annotation({"size": [9, 9], "counts": [81]}, image=2),
        ]
    )
    with pytest.raises(UserError) as caught:
        prepare("coco", source, "--background")
    text = str(caught.value)
    assert "annotation 12 has run lengths of 9 x 9 pixels, but its image has 6 x 4" in text
    assert "Shapes that reach outside of their images, and are cut off there: 1 (" in text
    assert "shape 1 of images/a.jpg)" in text
    assert (
        "Shapes that cross themselves; what an outline surrounds twice is outside (even-odd rule): 1 ("
        in text
    )
    assert "shape 2 of images/a.jpg)" in text


def test_two_files_about_one_image_are_refused_and_can_be_chosen(prepare, write, make):
    write(BOTH, file="old.json")
    source = write(BOTH[:1], file="new.json", images={1: "a.jpg", 3: "c.jpg"})
    make.image(source / "images" / "d.jpg")
    with pytest.raises(UserError, match=r"a\.jpg is annotated in .*new\.json and in .*old\.json\. Keep one"):
        prepare("coco", source)
    out = prepare("coco", source, "--annotations", "old.json")
    assert sorted(out.names("training") + out.names("validation")) == ["a", "b"]
    assert "2 images are not annotated, and so not used (images/c.jpg, images/d.jpg)." in out.said
    with pytest.raises(UserError, match=r"holds no other.json that this format reads \(--annotations\)"):
        prepare("coco", source, "--annotations", "other.json")


def test_an_empty_export_and_missing_images_are_named(prepare, write):
    source = write([])
    with pytest.raises(UserError, match=r"the export is empty: 2 images, and no shape with an area\."):
        prepare("coco", source)
    file = source / "annotations" / "instances.json"
    file.write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}')
    with pytest.raises(UserError, match=r"The export is empty: no image is listed in .*instances.json\."):
        prepare("coco", source)
    write(BOTH)
    for name in "ab":
        (source / "images" / f"{name}.jpg").unlink()
    with pytest.raises(UserError, match=r"holds none of the 2 images that .* lists \(a.jpg, b.jpg\)\. Put"):
        prepare("coco", source)


def test_the_view_of_a_turned_photo_follows_from_the_size(prepare, write, make):
    source = write([*BOTH[:1], annotation(polygon(0, 0, 4, 1), category=3), *BOTH[1:]], width=4, height=6)
    for name, tag in (("a", 6), ("b", 1)):
        exif = Image.Exif()
        exif[0x0112] = tag
        make.image(source / "images" / f"{name}.jpg", exif=exif)
    with pytest.raises(UserError, match=r"b\.jpg has 6 x 4 pixels, but its shapes were drawn on 4 x 6"):
        prepare("coco", source)
    out = prepare("coco", source, "--skip-bad")
    assert rows(out.label("a"))[:2] == ["2222", "1111"]
    assert "1 image with an EXIF orientation was written upright" in out.said


def test_names_choose_and_order_the_classes(prepare, write, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("car\nother\n")
    out = prepare("coco", write([*BOTH, annotation(polygon(0, 0, 6, 1), category=3)]), "--names", names)
    assert out.classes.names == ("car", "other")
    assert rows(out.label("a")) == ["111111", "000000", "000000", "000000"]
    assert 'does not name are omitted: "road" (1).' in out.said


def test_run_lengths_say_the_size_of_an_image_that_has_none(prepare, write):
    source = write([annotation({"size": [4, 6], "counts": [0, 24]}), *BOTH[1:]], width=None, height=None)
    assert (prepare("coco", source).label("a") == 1).all()
    write([annotation({"size": [4, 5], "counts": [0, 20]}), *BOTH[1:]], width=None, height=None)
    with pytest.raises(UserError, match=r"a\.jpg has 6 x 4 pixels, but its shapes were drawn on 5 x 4"):
        prepare("coco", source)


def test_other_processes_paint_the_same_labels(prepare, write, make, tmp_path):
    source = write([*BOTH, annotation(polygon(1, 1, 3, 3), category=3)])
    here = prepare("coco", source, "--workers", 0)
    labels = [here.label(name) for name in "ab"]
    there = prepare("coco", source, "--workers", 1, out=tmp_path / "other")
    assert all((there.label(name) == label).all() for name, label in zip("ab", labels, strict=True))


def grown(mask):
    """A mask and all pixels next to it, also diagonally."""
    for axis in range(2):
        mask = mask | np.roll(mask, 1, axis) | np.roll(mask, -1, axis)
    return mask


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the sample of COCO")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by pycocotools
@pytest.mark.parametrize("overlap", ["later", "smaller"])
def test_photos_of_coco_agree_with_pycocotools_within_the_outlines(prepare, overlap):
    tool = pytest.importorskip("pycocotools.mask")
    out = prepare("coco", SAMPLE, "--overlap", overlap)
    assert (len(out.records("training")), len(out.records("validation"))) == (32, 6)
    differing = 0
    for path in (SAMPLE / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        number = {
            one["id"]: k for k, one in enumerate(sorted(content["categories"], key=lambda c: c["id"]), 1)
        }
        for image in content["images"]:
            size, outlines, masks = (image["height"], image["width"]), 0, []
            for one in content["annotations"]:
                if one["image_id"] != image["id"]:
                    continue
                runs = tool.frPyObjects(one["segmentation"], *size)
                mask = tool.decode(tool.merge(runs) if isinstance(runs, list) else runs).astype(bool)
                masks.append((0 if one["iscrowd"] else number[one["category_id"]], mask))
                if isinstance(runs, list):
                    outlines |= grown(mask) & grown(~mask)
            if overlap == "smaller":
                masks.sort(key=lambda one: -one[1].sum())
            label = np.zeros(size, np.uint8)
            for value, mask in sorted(masks, key=lambda one: one[0] == 0):
                label[mask] = value
            differing += ((out.label(Path(image["file_name"]).stem) != label) & ~np.asarray(outlines)).sum()
    assert differing <= 2  # of 10 million: a polygon thinner than a pixel
