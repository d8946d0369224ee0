import shutil

import numpy as np
import pytest
import yaml

from mit_semseg.errors import UserError


@pytest.fixture
def pair(tmp_path, make):
    """images/*.jpg and masks/*.png, in sub-folders too."""
    source = tmp_path / "my data"
    for number, name in enumerate(["a", "b", "street/c", "street/d é", "e", "f"]):
        make.image(source / "images" / f"{name}.jpg", (6 + number, 4))
        make.label(source / "masks" / f"{name}.png", make.full([0, 1, 2, 3], (6 + number, 4)))
    return source


def test_labels_images_lists_classes_and_config_are_written(prepare, pair):
    out = prepare("folders", pair)
    records = out.records("training") + out.records("validation")
    assert {record["fpath_img"].split("/", 2)[2] for record in records} == {
        *("a.jpg", "b.jpg", "street/c.jpg", "street/d é.jpg", "e.jpg", "f.jpg")
    }
    for record in records:
        split = record["fpath_img"].split("/")[1]
        assert record in out.records(split)
        assert record["fpath_segm"].startswith(f"labels/{split}/")
        assert (out.folder / record["fpath_img"]).is_symlink()
        assert (out.folder / record["fpath_img"]).read_bytes()[:2] == b"\xff\xd8"
    np.testing.assert_array_equal(out.label("a")[0], [0, 1, 2, 3, 0, 1])
    assert out.classes.names == ("class 1", "class 2", "class 3")
    config = yaml.safe_load((out.folder / "config.yaml").read_text(encoding="utf-8"))
    assert config == {
        "DATASET": {
            "root_dataset": str(out.folder),
            "list_train": str(out.folder / "training.odgt"),
            "list_val": str(out.folder / "validation.odgt"),
            "classes": str(out.folder / "classes.csv"),
            "num_class": 3,
        },
        "DIR": "ckpt/out",
    }
    recipe = "--cfg config/photos-small.yaml"
    expected = f"Next: python train.py {recipe} --cfg {out.folder / 'config.yaml'} (or another recipe)"
    assert out.said.splitlines()[-1] == expected
    assert "3 classes, 25.0% of the pixels unlabelled" in out.said


def test_training_reads_what_was_written(prepare, pair):
    from mit_semseg.config import load_config
    from mit_semseg.data.datasets import TrainDataset, ValDataset

    out = prepare("folders", pair)
    cfg = load_config(str(out.folder / "config.yaml"), [])
    data = cfg.DATASET
    item = TrainDataset(data.root_dataset, data.list_train, data, batch_per_gpu=1)[0]
    assert set(item["seg_label"].unique().tolist()) <= {-1, 0, 1, 2}
    assert ValDataset(data.root_dataset, data.list_val, data)[0]["seg_label"].shape[1] == 4


def test_a_second_run_changes_nothing(prepare, pair, make):
    out = prepare("folders", pair)
    before = make.snapshot(out.folder)
    assert prepare("folders", pair).said == out.said
    assert make.snapshot(out.folder) == before


def test_a_run_that_fails_leaves_the_earlier_one_as_it_was(prepare, pair, make):
    out = prepare("folders", pair)
    before = make.snapshot(out.folder)
    with pytest.raises(UserError, match="holds no pair of folders"):
        prepare("folders", pair, "--label-suffix", "_x")  # fails before anything is written
    assert make.snapshot(out.folder) == before
    make.label(pair / "masks" / "f.png", [[1]])
    with pytest.raises(UserError, match=r"f.png has 1 x 1 pixels"):
        prepare("folders", pair, "--map", "1:2, 2:1", "--images", "copy")  # the others differ from before
    assert make.snapshot(out.folder) == before
    assert prepare("folders", pair, "--map", "1:2, 2:1", "--skip-bad").label("a")[0].tolist() == [
        0,
        2,
        1,
        3,
        0,
        2,
    ]


def test_several_processes_write_the_same(prepare, pair, make, tmp_path):
    alone = prepare("folders", pair, "--workers", 0)
    several = prepare("folders", pair, "--workers", 2, out=tmp_path / "other")
    assert alone.records("training") == several.records("training")
    for name in ("a", "c", "f"):
        np.testing.assert_array_equal(alone.label(name), several.label(name))


def test_an_added_image_moves_no_other_one(prepare, tmp_path, make):
    source = tmp_path / "many"
    for number in range(40):
        make.image(source / "images" / f"{number}.png", (2, 1))
        make.label(source / "labels" / f"{number}.png", [[1, 2]])
    first = prepare("folders", source).names("validation")
    assert 2 <= len(first) <= 16
    make.image(source / "images" / "0 new.png", (2, 1))
    make.label(source / "labels" / "0 new.png", [[1, 2]])
    assert set(prepare("folders", source).names("validation")) - {"0 new"} == set(first)
    assert prepare("folders", source, "--seed", 1).names("validation") != first


def test_no_share_leaves_all_to_training(prepare, pair):
    out = prepare("folders", pair, "--val-share", 0)
    assert len(out.names("training")) == 6
    assert "There is no validation image" in out.said
    assert not (out.folder / "validation.odgt").exists()


def test_map_ignore_and_offset_say_what_values_stand_for(prepare, tmp_path, make):
    source = tmp_path / "s"
    for name in ("a", "b"):
        make.image(source / "images" / f"{name}.jpg")
        make.label(source / "labels" / f"{name}.png", make.full([0, 7, 8, 9, 20, 255]))
    out = prepare("folders", source, "--map", "7:1, 8:1, 9:2, *:0")
    assert out.label("a")[0].tolist() == [0, 1, 1, 2, 0, 0]
    out = prepare("folders", source, "--map", "7:1,8:2,9:3,20:4", "--ignore", 255)
    assert out.label("a")[0].tolist() == [0, 1, 2, 3, 4, 0]
    with pytest.raises(UserError, match=r"hold 255, which usually stands for unlabelled.*: --ignore 255"):
        prepare("folders", source, "--label-offset", 0)
    out = prepare("folders", source, "--ignore", "255,20", "--label-offset", 0)
    assert out.label("a")[0].tolist() == [1, 8, 9, 10, 0, 0]


def test_a_mask_of_0_and_255_is_explained(prepare, tmp_path, make):
    source = tmp_path / "s"
    make.image(source / "image" / "a.jpg")
    make.label(source / "mask" / "a.png", make.full([0, 255]))
    with pytest.raises(UserError, match=r'hold only 0 and 255, .* object class 2: --map "0:1, 255:2"'):
        prepare("folders", source)
    assert prepare("folders", source, "--map", "0:1, 255:2").label("a")[0].tolist() == [1, 2, 1, 2, 1, 2]
    make.label(source / "mask" / "a.png", make.full([0, 1, 2, 255]))
    with pytest.raises(UserError, match=r"hold 255, which usually stands for unlabelled.*: --ignore 255"):
        prepare("folders", source)


def test_one_class_is_too_few(prepare, tmp_path, make):
    source = tmp_path / "s"
    make.image(source / "images" / "a.jpg")
    make.label(source / "labels" / "a.png", make.full([0, 1]))
    with pytest.raises(UserError, match=r'only the class "class 1"; .* two classes\. .* --label-offset 0'):
        prepare("folders", source)
    assert prepare("folders", source, "--label-offset", 0).classes.names == ("class 1", "class 2")


def test_values_beyond_8_bits_are_refused_until_they_are_mapped(prepare, tmp_path, make):
    from PIL import Image

    source = tmp_path / "s"
    make.image(source / "images" / "a.jpg")
    (source / "labels").mkdir()
    Image.fromarray(make.full([1, 300, 1000]).astype(np.uint16)).save(source / "labels" / "a.png")
    with pytest.raises(
        UserError, match=r'(?s)a.png holds the values 300, 1000, which .* --map "1:1, 300:2, 1000:3"'
    ):
        prepare("folders", source)
    out = prepare("folders", source, "--map", "300:2, 1000:3")
    assert out.label("a")[0].tolist() == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("header", [True, False])
def test_names_come_from_a_table_or_from_lines(prepare, pair, tmp_path, header):
    names = tmp_path / "names.txt"
    names.write_text("index,name\n1,wall\n2,sky\n3,tree\n" if header else "wall\nsky\n\ntree\n")
    assert prepare("folders", pair, "--names", names).classes.names == ("wall", "sky", "tree")
    names.write_text("index,name\n1,wall\n2,sky\n" if header else "wall\nsky\n")
    message = (
        "names.txt gives no name to 3" if header else "value 3 would be class 3, but .*names.txt has 2 names"
    )
    with pytest.raises(UserError, match=message):
        prepare("folders", pair, "--names", names)


def test_what_matches_nothing_is_named_and_can_be_skipped(prepare, pair, make):
    make.image(pair / "images" / "alone.jpg")
    make.label(pair / "masks" / "unused.png", [[1]])
    with pytest.raises(UserError) as raised:
        prepare("folders", pair)
    assert "2 of 8 images or labels cannot be used" in str(raised.value)
    assert "alone.jpg has no label." in str(raised.value)
    assert "unused.png is a label without an image." in str(raised.value)
    assert str(raised.value).endswith("omit them with --skip-bad.")
    out = prepare("folders", pair, "--skip-bad")
    assert len(out.names("training") + out.names("validation")) == 6
    assert "alone.jpg has no label." in out.said


def test_all_bad_files_are_collected_before_anything_fails(prepare, tmp_path, make):
    source = tmp_path / "s"
    for number in range(10):
        make.image(source / "images" / f"{number}.jpg")
        make.label(source / "labels" / f"{number}.png", make.full([1, 2]))
    make.label(source / "labels" / "1.png", [[1, 2]])
    (source / "labels" / "2.png").write_bytes((source / "labels" / "3.png").read_bytes()[:40])
    (source / "images" / "3.jpg").write_bytes(b"")
    make.colored(source / "labels" / "4.png", np.zeros((4, 6, 3)))
    for number in (5, 6, *range(10, 26)):
        make.image(source / "images" / f"{number}.jpg")
        (source / "labels" / f"{number}.png").write_text("no image")
    with pytest.raises(UserError) as raised:
        prepare("folders", source)
    text = str(raised.value)
    assert "22 of 26 images or labels cannot be used" in text
    assert "1.png has 2 x 1 pixels, but its image" in text
    assert "1.jpg has 6 x 4. A label must be as large as its image." in text
    assert "3.jpg is empty" in text
    assert "4.png is a label of mode RGB" in text
    assert "... and 2 more" in text  # 20 are named
    out = prepare("folders", source, "--skip-bad")
    assert sorted(out.names("training") + out.names("validation")) == ["0", "7", "8", "9"]
    assert out.said.count("cannot be read") + out.said.count("not an image") >= 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.jpg", "a_mask.png"),
        ("a.JPG", "a_label.PNG"),
        ("images/a_sat.jpg", "masks/a_mask.png"),
        ("images/img_a.png", "labels/mask_a.png"),
        ("a.jpg", "a.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("data/v1/images/x/a.jpg", "data/v1/annotations/x/a.png"),
        ("train/images/a.jpg", "train/masks/a.png"),
        ("images/train/a.jpg", "labels/train/a.png"),
        ("train/a.jpg", "train_labels/a_L.png"),
        ("CamVid/train/a.png", "CamVid/trainannot/a.png"),
        ("train_images/a.jpg", "train_masks/a.png"),
        ("images/caf\u00e9.jpg", "labels/cafe\u0301.png"),
    ],
)
def test_common_layouts_are_understood(prepare, tmp_path, make, one, other):
    source = tmp_path / "s"
    make.image(source / one)
    make.label(source / other, make.full([1, 2]))
    (source / ".DS_Store").write_bytes(b"x")
    (source / "._a.jpg").write_bytes(b"x")
    (source / "Thumbs.db").write_bytes(b"x")
    out = prepare("folders", source)
    assert len(out.records("training")) == 1
    assert out.records("training")[0]["fpath_img"].endswith(one.rsplit("/", 1)[-1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("images/a.jpg", "annotations/trimaps/a.png"),
        ("ISBI_Training_Data/a.jpg", "ISBI_Training_GroundTruth/a_Segmentation.png"),
        ("training/image_2/a.png", "training/semantic/a.png"),
        ("top/a.tif", "gts/a.tif"),
    ],
)
def test_names_alone_match_where_folders_do_not(prepare, tmp_path, make, one, other):
    for name in ("a", "b"):
        make.image(tmp_path / "s" / one.replace("a.", f"{name}."))
        values = make.full([1, 2] if name == "a" else [2, 1])
        make.label(tmp_path / "s" / other.replace("a.", f"{name}.").replace("a_", f"{name}_"), values)
    out = prepare("folders", tmp_path / "s")
    assert sorted(out.names("training") + out.names("validation")) == ["a", "b"]
    assert (out.label("a")[0, 0], out.label("b")[0, 0]) == (1, 2)
    assert "matched by file name alone" in out.said


def test_names_that_come_twice_match_in_their_own_folders_only(prepare, tmp_path, make):
    for street in ("x", "y"):
        make.image(tmp_path / "s" / "images" / street / "1.jpg")
    make.label(tmp_path / "s" / "labels" / "z" / "1.png", make.full([1, 2]))
    with pytest.raises(
        UserError, match=r"no image with a label of the same name .*--image-folder and --label-f"
    ):
        prepare("folders", tmp_path / "s")


@pytest.mark.parametrize("place", ["photos", "."])
def test_naming_the_folder_of_the_labels_is_enough(prepare, tmp_path, make, place):
    make.image(tmp_path / "s" / place / "a.jpg")
    make.label(tmp_path / "s" / "masks" / "a.png", make.full([1, 2]))
    make.colored(tmp_path / "s" / "masks_color" / "a.png", np.zeros((4, 6, 3)))
    out = prepare("folders", tmp_path / "s", "--label-folder", "masks")
    assert [record["fpath_img"] for record in out.records("training")] == ["images/training/a.jpg"]


def test_folders_called_train_val_and_test_are_the_split(prepare, tmp_path, make):
    source = tmp_path / "s"
    for part in ("train", "val", "test"):
        make.image(source / "images" / part / f"{part}1.jpg")
        if part != "test":
            make.label(source / "labels" / part / f"{part}1.png", make.full([1, 2]))
    out = prepare("folders", source)
    assert (out.names("training"), out.names("validation")) == (["train1"], ["val1"])
    assert out.records("training")[0]["fpath_img"] == "images/training/train1.jpg"


def test_folders_and_suffixes_can_be_named(prepare, tmp_path, make):
    source = tmp_path / "s"
    make.image(source / "photographs" / "a_x.jpg")
    make.label(source / "truth" / "a_y.png", make.full([1, 2]))
    words = ("--image-folder", "photographs", "--label-folder", "truth")
    with pytest.raises(UserError, match="no pair of folders such as images/ and labels/"):
        prepare("folders", source)
    with pytest.raises(UserError, match=r"no image with a label of the same name .*photographs/a_x.jpg"):
        prepare("folders", source, *words)
    out = prepare("folders", source, *words, "--image-suffix", "_x", "--label-suffix", "_y")
    assert out.names("training") == ["a_x"]


def test_several_labels_for_an_image_are_named(prepare, pair, make):
    make.label(pair / "labels" / "a.png", make.full([1, 2]))
    with pytest.raises(UserError) as raised:
        prepare("folders", pair)
    assert "1 of 6 images or labels cannot be used" in str(raised.value)
    assert "a.jpg has several labels: " in str(raised.value)
    out = prepare("folders", pair, "--label-folder", "masks", "--image-folder", "images")
    assert len(out.names("training") + out.names("validation")) == 6


def test_a_suffix_leaves_out_labels_of_other_kinds(prepare, tmp_path, make):
    make.image(tmp_path / "s" / "images" / "a.jpg")
    make.label(tmp_path / "s" / "labels" / "a_instance.png", make.full([8, 9]))
    make.label(tmp_path / "s" / "labels" / "a_class.png", make.full([1, 2]))
    out = prepare("folders", tmp_path / "s", "--label-suffix", "_class")
    assert out.label("a")[0, :2].tolist() == [1, 2]
    with pytest.raises(UserError, match=r"\(1 images and 0 labels found"):
        prepare("folders", tmp_path / "s", "--label-suffix", "_clas")


def test_a_jpeg_is_no_label(prepare, tmp_path, make):
    source = tmp_path / "s"
    make.image(source / "images" / "a.jpg")
    make.label(source / "labels" / "a.jpg", make.full([1, 2]))
    with pytest.raises(
        UserError, match=r"labels/a\.jpg is a JPEG file, whose compression changes class numbers"
    ):
        prepare("folders", source)


def test_a_test_part_alone_leaves_nothing_to_train_on(prepare, tmp_path, make):
    source = tmp_path / "s"
    make.image(source / "images" / "test" / "a.jpg")
    make.label(source / "labels" / "test" / "a.png", make.full([1, 2]))
    with pytest.raises(UserError, match=r"has no image that trains or validates. 1 images of the test part"):
        prepare("folders", source)


def test_two_images_of_one_name_are_refused(prepare, pair, make):
    make.image(pair / "images" / "a.png")
    with pytest.raises(UserError, match=r"a.png has the same name as .*a.jpg, so their labels would be one"):
        prepare("folders", pair)


def test_images_can_be_copied_and_are_copied_where_links_are_refused(prepare, pair, monkeypatch):
    copied = prepare("folders", pair, "--images", "copy")
    for record in copied.records("training"):
        path = copied.folder / record["fpath_img"]
        assert path.is_file()
        assert not path.is_symlink()
    linked = prepare("folders", pair)
    assert all((linked.folder / record["fpath_img"]).is_symlink() for record in linked.records("training"))
    shutil.rmtree(linked.folder)

    def refuse(self, target):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    copied = prepare("folders", pair)
    assert not any(
        (copied.folder / record["fpath_img"]).is_symlink() for record in copied.records("training")
    )


def test_what_is_not_ours_is_never_written_to(prepare, pair, tmp_path):
    for out in (pair, pair / "out", pair / "images"):
        with pytest.raises(UserError, match="which must not be changed"):
            prepare("folders", pair, out=out)
    link = tmp_path / "link"
    link.symlink_to(pair)
    with pytest.raises(UserError, match="which must not be changed"):
        prepare("folders", pair, out=link / "out")
    out = tmp_path / "mine"
    prepare("folders", pair, out=out)
    shutil.copytree(pair, out / "raw")
    with pytest.raises(UserError, match="so it could be overwritten"):
        prepare("folders", out / "raw", out=out)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds other files \(thesis.txt\), which could be overwritten"):
        prepare("folders", pair, out=tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.txt"]


def test_a_source_without_the_format_leaves_nothing_behind(prepare, tmp_path):
    source = tmp_path / "empty"
    source.mkdir()
    with pytest.raises(UserError, match="It holds: nothing"):
        prepare("folders", source)
    assert not (tmp_path / "out").exists()


def test_an_image_turned_by_exif_stays_as_it_is_stored(prepare, tmp_path, make):
    from PIL import Image

    source = tmp_path / "s"
    exif = Image.Exif()
    exif[0x0112] = 6
    make.image(source / "images" / "a.jpg", (6, 4), exif=exif)
    make.label(source / "labels" / "a.png", make.full([1, 2]))
    (record,) = prepare("folders", source).records("training")
    assert (record["width"], record["height"]) == (6, 4)


def test_the_folders_that_were_taken_are_named_if_there_are_others(prepare, tmp_path, make):
    source = tmp_path / "s"
    make.image(source / "images" / "a.jpg")
    make.label(source / "masks" / "a.png", make.full([1, 2]))
    assert "Not used" not in prepare("folders", source).said
    make.image(source / "previews" / "a.jpg")
    said = prepare("folders", source).said
    assert "Images are those of images/, labels those of masks/. Not used: previews/ (1 file)." in said
    make.image(source / "rgb" / "a.jpg")
    with pytest.raises(UserError, match=r"a.png fits two images, .*/a.jpg and .*/a.jpg. .* --image-folder\."):
        prepare("folders", source)
    out = prepare("folders", source, "--image-folder", "rgb", "--label-folder", "masks")
    assert (out.folder / out.records("training")[0]["fpath_img"]).readlink() == source / "rgb" / "a.jpg"


def test_a_run_that_fails_midway_loses_nothing(prepare, pair, make):
    """Every label and the images would be written anew, but the last file is damaged."""
    out = prepare("folders", pair)
    before = make.snapshot(out.folder)
    (pair / "masks" / "street" / "d é.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match="1 of 6 images or labels cannot be used"):
        prepare("folders", pair, "--map", "1:3, 3:1", "--images", "copy", "--val-share", 0)
    assert make.snapshot(out.folder) == before
    changed = prepare("folders", pair, "--map", "1:3, 3:1", "--val-share", 0, "--skip-bad")
    assert changed.label("a")[0, :4].tolist() == [0, 3, 2, 1]
    assert not (out.folder / "validation.odgt").exists()


def test_files_of_a_run_that_was_killed_do_not_hinder_the_next(prepare, pair, tmp_path):
    (tmp_path / "out" / ".prepare.part" / "labels").mkdir(parents=True)
    (tmp_path / "out" / ".prepare.part" / "training.odgt").write_text("of the killed run")
    out = prepare("folders", pair)
    assert len(out.records("training") + out.records("validation")) == 6
    assert not (out.folder / ".prepare.part").exists()
