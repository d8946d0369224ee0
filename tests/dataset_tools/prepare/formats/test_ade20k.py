import numpy as np
import pytest

from mit_semseg.data.classes import load_classes
from mit_semseg.dataset_tools.prepare.build import prepare as library
from mit_semseg.dataset_tools.prepare.release import PrepareOptions
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


def test_only_one_part_is_fine(prepare, release, tmp_path):
    import shutil

    shutil.rmtree(release / "images" / "validation")
    out = prepare("ade20k", release)
    assert len(out.names("training")) + len(out.names("validation")) == 3
    assert "The validation part has no images, so its 2 files are omitted." in out.said
    assert "There is no validation part, so 20% of the training images" in out.said


def test_a_value_that_the_challenge_has_not_is_refused(prepare, release, make):
    make.label(release / "annotations" / "training" / "ADE_train_00000002.png", make.full([151]))
    refused = r'(?s)00002.png holds the value 151, which belongs to no class.*unlabelled: --map "151:0"'
    with pytest.raises(UserError, match=refused):
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
    with pytest.raises(UserError, match=r"nowhere does not exist\. Name the folder of the dataset"):
        library(str(tmp_path / "nowhere"), str(tmp_path / "out"), PrepareOptions("ade20k"))
