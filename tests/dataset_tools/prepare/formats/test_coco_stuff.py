import pytest

from mit_semseg.dataset_tools.prepare.formats.coco_stuff import NAMES
from mit_semseg.errors import UserError

# person, fire hydrant, stop sign (street sign, 11, is never labelled), toothbrush, banner, wood
VALUES = [0, 10, 12, 89, 91, 181, 255, 255]


@pytest.fixture
def release(tmp_path, make):
    root = tmp_path / "coco"
    for part, numbers in (("train2017", (9, 25)), ("val2017", (139,))):
        for number in numbers:
            make.image(root / part / f"{number:012d}.jpg", (8, 2))
            folder = root / "stuffthingmaps_trainval2017" / part
            make.label(folder / f"{number:012d}.png", make.full(VALUES, (8, 2)))
            make.label(folder / f"{number:012d}_labelTrainIds.png", make.full([3], (8, 2)))
    return root


def test_the_171_classes_have_no_gaps(prepare, release):
    out = prepare("coco-stuff", release)
    assert out.label("000000000009")[0].tolist() == [1, 11, 12, 80, 81, 171, 0, 0]
    names = out.classes.names
    assert len(names) == 171
    assert [names[k - 1] for k in (1, 11, 12, 80, 81, 171)] == [
        *("person", "fire hydrant", "stop sign", "toothbrush", "banner", "wood"),
    ]
    assert not set(names) & {"street sign", "hat", "hair brush", "blender"}
    assert (len(out.names("training")), out.names("validation")) == (2, ["000000000139"])


def test_names_stand_at_the_value_that_the_maps_hold():
    assert len(NAMES) == 182
    assert [NAMES[value] for value in (0, 11, 90, 91, 148, 156, 181)] == [
        *("person", "street sign", "hair brush", "banner", "road", "sky-other", "wood"),
    ]


def test_maps_beside_the_images_are_found_too(prepare, release, tmp_path):
    expected = prepare("coco-stuff", release).records("training")
    for path in (release / "stuffthingmaps_trainval2017").rglob("*.png"):
        path.rename(release / path.parent.name / path.name)
    assert prepare("coco-stuff", release, out=tmp_path / "beside").records("training") == expected


def test_only_the_validation_images_are_enough(prepare, release):
    for path in (release / "train2017").iterdir():
        path.unlink()
    out = prepare("coco-stuff", release)
    assert "The training part has no images, so its 2 files are omitted." in out.said
    assert "There is no training image" in out.said
    assert len(out.names("validation")) == 1


def test_an_image_without_its_map_is_named(prepare, release, make):
    make.image(release / "train2017" / "000000000030.jpg", (8, 2))
    with pytest.raises(UserError, match=r"000000000030.jpg has no stuff map\."):
        prepare("coco-stuff", release)
    with pytest.raises(UserError, match="holds no train2017"):
        prepare("coco-stuff", release / "stuffthingmaps_trainval2017")
