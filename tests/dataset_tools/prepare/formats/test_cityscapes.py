import pytest

from mit_semseg.errors import UserError


@pytest.fixture
def release(tmp_path, make):
    root = tmp_path / "cityscapes"
    for split, city, count in (("train", "aachen", 2), ("val", "lindau", 1), ("test", "berlin", 1)):
        for number in range(count):
            name = f"{city}_{number:06d}_000019"
            make.image(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            fine = root / "gtFine" / split / city
            make.label(fine / f"{name}_gtFine_labelIds.png", make.full([0, 7, 8, 33, 31, 29]))
            make.label(fine / f"{name}_gtFine_instanceIds.png", make.full([0, 7, 8, 33]))
            make.image(fine / f"{name}_gtFine_color.png")
            (fine / f"{name}_gtFine_polygons.json").write_text("{}")
    (root / "README").write_text("x")
    return root


def test_ids_become_the_19_trained_classes(prepare, release):
    out = prepare("cityscapes", release)
    assert out.label("aachen_000000_000019")[0].tolist() == [0, 1, 2, 19, 17, 0]
    assert out.classes.names[:3] == ("road", "sidewalk", "building")
    assert out.classes.names[18] == "bicycle"
    assert out.classes.colors[:2].tolist() == [[128, 64, 128], [244, 35, 232]]
    assert len(out.classes.names) == 19
    assert out.names("training") == [f"aachen_00000{k}_000019_leftImg8bit"[:-12] for k in (0, 1)]
    assert out.records("validation")[0]["fpath_img"] == "images/validation/lindau/lindau_000000_000019.png"
    assert "1 test images are omitted: their labels are not public." in out.said


def test_a_missing_file_is_a_problem_and_a_missing_part_is_not(prepare, release):
    (release / "gtFine" / "train" / "aachen" / "aachen_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"aachen_000001_000019_leftImg8bit.png has no labelIds file"):
        prepare("cityscapes", release)
    for path in (release / "leftImg8bit" / "val").rglob("*.png"):
        path.unlink()
    out = prepare("cityscapes", release, "--skip-bad")
    assert "The validation part has no images" in out.said


def test_a_map_of_ids_makes_classes_of_its_own(prepare, release):
    out = prepare("cityscapes", release, "--map", "7:1, 8:1, 29:2, *:0")
    assert out.label("aachen_000000_000019")[0].tolist() == [0, 1, 1, 0, 0, 2]
    assert out.classes.names == ("road", "caravan")


def test_only_one_of_the_two_folders_is_explained(prepare, release):
    with pytest.raises(UserError, match=r"holds no leftImg8bit/train/CITY/.* with gtFine"):
        prepare("cityscapes", release / "gtFine")
