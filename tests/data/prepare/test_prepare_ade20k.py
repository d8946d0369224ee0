import zipfile

import numpy as np
import pytest

from mit_semseg.data.classes import load_classes
from mit_semseg.data.prepare.build import prepare as library
from mit_semseg.data.prepare.options import Options
from mit_semseg.errors import UserError

ROOT = "ADEChallengeData2016"


@pytest.fixture
def release(tmp_path, make):
    """ADEChallengeData2016 as its zip unpacks."""
    root = tmp_path / "download" / ROOT
    for split, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for number in range(1, count + 1):
            name = f"ADE_{short}_{number:08d}"
            make.image(root / "images" / split / f"{name}.jpg")
            make.label(root / "annotations" / split / f"{name}.png", make.full([0, 1, 2, 150]))
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n")
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return root


def test_values_lists_and_classes_are_the_challenge_s(prepare, release):
    out = prepare("ade20k", release)
    assert out.names("training") == [f"ADE_train_0000000{k}" for k in (1, 2, 3)]
    assert out.names("validation") == [f"ADE_val_0000000{k}" for k in (1, 2)]
    assert out.label("ADE_val_00000001")[0].tolist() == [0, 1, 2, 150, 0, 1]
    known = load_classes("", 150)
    assert out.classes.names == known.names
    np.testing.assert_array_equal(out.classes.colors, known.colors)


def test_the_zip_gives_the_same_as_the_folder(prepare, release, tmp_path):
    archive = tmp_path / "ADEChallengeData2016.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(release.rglob("*")):
            file.write(path, path.relative_to(release.parent))
        file.writestr(f"__MACOSX/{ROOT}/images/training/._ADE_train_00000001.jpg", b"x")
    folder, packed = prepare("ade20k", release.parent), prepare("ade20k", archive, out=tmp_path / "packed")
    assert packed.records("training") == folder.records("training")
    for record in packed.records("training") + packed.records("validation"):
        copy = packed.folder / record["fpath_img"]
        assert not copy.is_symlink()
        assert copy.read_bytes() == (folder.folder / record["fpath_img"]).read_bytes()
        label = record["fpath_segm"]
        assert (packed.folder / label).read_bytes() == (folder.folder / label).read_bytes()


def test_the_zip_in_its_folder_is_found_and_read_once_only(prepare, release, tmp_path, make):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with zipfile.ZipFile(downloads / "a.zip", "w") as file:
        for path in sorted(release.rglob("*")):
            file.write(path, path.relative_to(release.parent))
    out = prepare("ade20k", downloads, "--workers", 2)
    assert len(out.names("training")) == 3
    before = make.snapshot(out.folder)
    prepare("ade20k", downloads)
    assert make.snapshot(out.folder) == before


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "C:\\evil.jpg", "..\\e.jpg"]
)
def test_a_zip_that_leads_outside_is_refused(prepare, tmp_path, name):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, b"x")
    with pytest.raises(UserError, match="leads out of the folder it is unpacked to"):
        prepare("ade20k", archive)


def test_a_damaged_zip_and_a_damaged_member_are_named(prepare, release, tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(release.rglob("*")):
            file.write(path, path.relative_to(release.parent))
        file.writestr(f"{ROOT}/images/training/ADE_train_00000009.jpg", b"no image")
        file.writestr(f"{ROOT}/annotations/training/ADE_train_00000009.png", b"no image")
    with pytest.raises(
        UserError, match=rf"x.zip/{ROOT}/images/training/ADE_train_00000009.jpg is not an image"
    ):
        prepare("ade20k", archive)
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(UserError, match=r"x.zip is no complete zip file .*Fetch it again"):
        prepare("ade20k", archive)


def test_only_one_part_is_fine(prepare, release, tmp_path):
    import shutil

    shutil.rmtree(release / "images" / "validation")
    out = prepare("ade20k", release)
    assert len(out.names("training")) + len(out.names("validation")) == 3
    assert "The validation part has no images, so its 2 files are left out." in out.said
    assert "There is no validation part; 20% of the training images" in out.said


def test_a_value_that_the_challenge_has_not_is_refused(prepare, release, make):
    make.label(release / "annotations" / "training" / "ADE_train_00000002.png", make.full([151]))
    with pytest.raises(
        UserError, match=r'00002.png holds the value 151, which no class has. --map "151:0" makes'
    ):
        prepare("ade20k", release)
    assert prepare("ade20k", release, "--map", "151:0").label("ADE_train_00000002").max() == 0


def test_a_map_merges_classes_and_their_names(prepare, release):
    out = prepare("ade20k", release, "--map", "2:1, 150:2, *:0, 1:1")
    assert out.label("ADE_val_00000001")[0].tolist() == [0, 1, 1, 2, 0, 1]
    # class 1 keeps wall's name, since wall is still in it; class 2 is no longer made of buildings
    assert out.classes.names == ("wall", "flag")


def test_another_folder_says_what_was_looked_for(prepare, tmp_path):
    (tmp_path / "other" / "photos").mkdir(parents=True)
    (tmp_path / "other" / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no images/training/ADE_train_.*It holds: photos/\."):
        prepare("ade20k", tmp_path / "other")
    with pytest.raises(UserError, match=r"nowhere does not exist\. Name the folder, zip or tar"):
        library(str(tmp_path / "nowhere"), str(tmp_path / "out"), Options("ade20k"))
