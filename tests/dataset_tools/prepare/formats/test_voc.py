import numpy as np
import pytest

from mit_semseg.errors import UserError

PALETTE = np.random.Generator(np.random.Philox(0)).integers(0, 256, 768).tolist()


@pytest.fixture
def release(tmp_path, make):
    root = tmp_path / "download" / "VOCdevkit" / "VOC2012"
    names = ["2007_000032", "2007_000039", "2007_000033", "2008_000001"]
    for name in names:
        make.image(root / "JPEGImages" / f"{name}.jpg")
    for name in names[:3]:
        make.label(root / "SegmentationClass" / f"{name}.png", make.full([0, 1, 20, 255]), PALETTE)
        make.label(root / "SegmentationObject" / f"{name}.png", make.full([0, 1, 2, 255]), PALETTE)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
    (lists / "val.txt").write_text("2007_000033\n")
    (lists / "trainval.txt").write_text("2007_000032\n2007_000033\n2007_000039\n")
    (root / "ImageSets" / "Main").mkdir()
    (root / "ImageSets" / "Main" / "train.txt").write_text("2008_000001\n")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "2007_000032.xml").write_text("<annotation/>")
    return root


def test_background_is_a_class_and_the_border_is_unlabelled(prepare, release):
    out = prepare("voc", release)
    assert out.label("2007_000032")[0].tolist() == [1, 2, 21, 0, 1, 2]
    assert (out.names("training"), out.names("validation")) == (
        ["2007_000032", "2007_000039"],
        ["2007_000033"],
    )
    assert len(out.classes.names) == 21
    assert out.classes.names[:2] == ("background", "aeroplane")
    assert out.classes.colors[[0, 1, 20]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 64, 128]]


def test_a_listed_image_that_is_missing_is_named(prepare, release):
    (release / "JPEGImages" / "2007_000039.jpg").unlink()
    with pytest.raises(UserError, match="2007_000039 is listed in ImageSets/Segmentation but has no image"):
        prepare("voc", release)
    assert prepare("voc", release, "--skip-bad").names("training") == ["2007_000032"]


def test_without_lists_the_split_is_drawn(prepare, release):
    for path in (release / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    out = prepare("voc", release)
    assert len(out.names("training") + out.names("validation")) == 3
    assert out.names("validation")
    assert "so the split is drawn" in out.said


def test_without_labels_it_says_what_was_looked_for(prepare, release):
    with pytest.raises(UserError, match=r"holds no JPEGImages/\*.jpg with SegmentationClass/\*.png"):
        prepare("voc", release / "ImageSets")
