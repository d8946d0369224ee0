import numpy as np
import pytest

from mit_semseg.data.classes import load_classes
from mit_semseg.errors import UserError

SKY, ROAD, MARKS, CHILD, VOID = (128, 128, 128), (128, 64, 128), (128, 0, 192), (192, 128, 64), (0, 0, 0)


@pytest.fixture
def release(tmp_path, make):
    root = tmp_path / "CamVid"
    for name in (
        "0001TP_006690",
        "0006R0_f00930",
        "0016E5_07959",
        "0016E5_08640",
        "0001TP_008550",
        "Seq05VD_f00000",
    ):
        make.image(root / "701_StillsRaw_full" / f"{name}.png")
        values = np.resize(np.array([SKY, ROAD, MARKS, CHILD, VOID]), (4, 6, 3))
        make.colored(root / "LabeledApproved_full" / f"{name}_L.png", values)
    return root


def test_colours_become_11_classes_in_the_usual_split(prepare, release):
    out = prepare("camvid", release)
    assert out.names("training") == ["0001TP_006690", "0006R0_f00930", "0016E5_08640"]
    assert out.names("validation") == ["0016E5_07959"]
    assert "2 test frames" in out.said
    known = load_classes("data/camvid_classes.csv", 11)
    assert out.classes.names == known.names
    np.testing.assert_array_equal(out.classes.colors, known.colors)
    values = [known.names[value - 1] if value else None for value in out.label("0001TP_006690").ravel()[:5]]
    assert values == ["sky", "road", "road", "pedestrian", None]


def test_all_classes_can_be_kept(prepare, release):
    (release / "label_colors.txt").write_text(
        "128 128 128\tSky\r\n128 64 128\t\tRoad\r\n128 0 192\tLaneMkgsDriv\r\n"
        "192 128 64\tChild\r\n0 0 0\t\tVoid\r\n"
    )
    out = prepare("camvid", release, "--classes", 32)
    assert out.classes.names == ("Sky", "Road", "LaneMkgsDriv", "Child")
    assert out.label("0001TP_006690").ravel()[:5].tolist() == [1, 2, 3, 4, 0]
    (release / "label_colors.txt").unlink()
    assert len(prepare("camvid", release, "--classes", 32).classes.names) == 31
    with pytest.raises(UserError, match="--classes is 12; CamVid has 11"):
        prepare("camvid", release, "--classes", 12)


def test_unknown_colours_are_counted_or_taken_for_unlabelled(prepare, release, make):
    values = np.full((4, 6, 3), SKY)
    values[0, :2] = (1, 2, 3)
    make.colored(release / "LabeledApproved_full" / "0006R0_f00930_L.png", values)
    with pytest.raises(
        UserError, match=r"(?s)f00930_L.png has 1 colour .* 1,2,3: 2 pixels in 1 file; .* Void, 0,0,0"
    ):
        prepare("camvid", release)
    out = prepare("camvid", release, "--unknown-colors", "unlabelled")
    assert out.label("0006R0_f00930")[0].tolist() == [0, 0, 1, 1, 1, 1]


def test_the_split_is_the_one_of_the_lists_that_people_share():
    from mit_semseg.dataset_tools.prepare.formats.camvid import _split

    counts = {"training": 0, "validation": 0, "test": 0}
    for name in frames():
        counts[_split(name)] += 1
    assert counts == {"training": 367, "validation": 101, "test": 233}


def frames():
    """The names of all 701 frames."""
    yield from (f"0001TP_{number:06d}" for number in range(6690, 10381, 30))
    yield from (f"0006R0_f{number:05d}" for number in range(930, 3931, 30))
    for first, last, step in (
        *((390, 870, 30), (901, 901, 1), (930, 2400, 30), (4350, 7920, 30)),
        *((7959, 8159, 2), (8190, 8640, 30)),
    ):
        yield from (f"0016E5_{number:05d}" for number in range(first, last + 1, step))
    yield from (f"Seq05VD_f{number:05d}" for number in range(0, 5101, 30))


def test_a_folder_without_labels_says_what_was_looked_for(prepare, release):
    with pytest.raises(UserError, match="holds no 701_StillsRaw_full"):
        prepare("camvid", release / "701_StillsRaw_full")
