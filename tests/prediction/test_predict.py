"""test.py as a user sees it: photos of any kind in, pictures out."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from forked import in_processes
from PIL import Image, ImageOps

from mit_semseg.errors import UserError
from mit_semseg.prediction.share import predict_share
from mit_semseg.runtime.distributed import gather_from_processes

NOISE = np.random.Generator(np.random.Philox(5)).integers(0, 256, (30, 44, 3)).astype(np.uint8)
COLORS = {(200, 60, 40), (60, 180, 60), (40, 80, 200)}


@pytest.fixture
def segment(call, tiny, trained, tmp_path):
    """``segment(paths...)`` draws into ``tmp_path / "out"``."""

    def run(*paths, out=tmp_path / "out", **keys):
        words = tiny.overrides(**{"DIR": trained, "TEST__result": out, **keys})
        outcome = call("test", "--imgs", *paths, "--gpu", "cpu", "--cfg", tiny.config, *words)
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        return outcome.out

    return run


def halves(path):
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        return np.split(np.asarray(picture), 2, axis=1)


def assert_drawn(path, expected):
    """A picture of the image, unchanged, beside its classes in the colours of the dataset's table."""
    image, classes = halves(path)
    np.testing.assert_array_equal(image, expected)
    assert {tuple(color) for color in classes.reshape(-1, 3).tolist()} <= COLORS


def gray(image):
    return np.repeat(np.asarray(image)[..., None], 3, axis=2)


def test_a_picture_shows_image_and_classes_side_by_side(segment, tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "photo.png")
    out = segment(tmp_path / "photo.png")
    assert_drawn(tmp_path / "out" / "photo.png", NOISE)
    assert f"Predictions in [{tmp_path / 'photo.png'}]:" in out
    assert f"-> {tmp_path / 'out' / 'photo.png'}" in out
    assert 99 < sum(map(float, re.findall(r"(?:brick|lawn|pool): ([\d.]+)%", out))) < 100.1


def test_damaged_exif_data_leaves_the_photo_usable_without_a_warning(segment, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 5
    Image.fromarray(NOISE).save(tmp_path / "photo.png", exif=exif.tobytes()[:18])
    segment(tmp_path / "photo.png")
    assert_drawn(tmp_path / "out" / "photo.png", NOISE)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("a.jpg", Image.fromarray(NOISE), None),
        ("a.JPG", Image.fromarray(NOISE), None),
        ("a.jpeg", Image.fromarray(NOISE).convert("L"), None),
        ("a.jpg", Image.fromarray(NOISE).convert("CMYK"), None),
        ("a.png", Image.fromarray(NOISE), NOISE),
        ("a.PNG", Image.fromarray(NOISE), NOISE),
        ("a.webp", Image.fromarray(NOISE), None),
        ("a.bmp", Image.fromarray(NOISE), NOISE),
        ("a.tif", Image.fromarray(NOISE), NOISE),
        ("gray.png", Image.fromarray(NOISE[..., 0]), gray(NOISE[..., 0])),
        ("gray_alpha.png", Image.fromarray(NOISE[..., 0]).convert("LA"), gray(NOISE[..., 0])),
        ("alpha.png", Image.fromarray(np.dstack([NOISE, NOISE[..., 0]])), NOISE),
        ("deep.png", Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), gray(NOISE[..., 0])),
        ("one_bit.png", Image.fromarray(NOISE[..., 0] > 127), gray((NOISE[..., 0] > 127) * np.uint8(255))),
        ("palette.png", Image.fromarray(NOISE).quantize(16), None),
        ("palette.gif", Image.fromarray(NOISE).quantize(16), None),
    ],
)
def test_photos_of_every_kind_are_drawn(segment, tmp_path, name, image, expected):
    file = tmp_path / name
    image.save(file)
    segment(file)
    if expected is None:
        with Image.open(file) as opened:
            expected = np.asarray(opened.convert("RGB"))
    assert_drawn((tmp_path / "out" / name).with_suffix(".png"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_camera_says(segment, tmp_path, orientation):
    photo = Image.fromarray(NOISE)
    photo.getexif()[0x0112] = orientation
    photo.save(tmp_path / "a.png", exif=photo.getexif())
    segment(tmp_path / "a.png")
    assert_drawn(tmp_path / "out" / "a.png", np.asarray(ImageOps.exif_transpose(photo)))


def test_folders_are_searched_with_all_below_them_and_keep_their_shape(segment, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "b.PNG", "deep/er/a.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NOISE).save(photos / name)
    (photos / "notes.txt").write_text("no image")
    segment(photos)
    found = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")
    )
    assert found == ["a.png", "b.png", "deep/er/a.png"]


def test_two_images_of_one_name_in_two_folders_have_a_picture_each(segment, tmp_path):
    for k, name in enumerate(("p/a.png", "q/a.png")):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.full_like(NOISE, 100 * k)).save(tmp_path / name)
    segment(tmp_path / "p" / "a.png", tmp_path / "q" / "a.png")
    values = sorted(halves(path)[0].max() for path in (tmp_path / "out").glob("*.png"))
    assert values == [0, 100]


def test_an_image_is_never_overwritten_by_its_picture(segment, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(NOISE).save(photos / "a.png")
    before = (photos / "a.png").read_bytes()
    segment(photos, out=photos)
    assert (photos / "a.png").read_bytes() == before
    assert_drawn(photos / "a_segmented.png", NOISE)


def test_the_newest_epoch_is_used_unless_another_is_named(segment, tmp_path, tiny):
    image = tiny.folder / "validation" / "0.jpg"
    for name, keys in (("newest", {}), ("two", {"TEST__checkpoint": "epoch_2.pth"})):
        segment(image, out=tmp_path / name, **keys)
    segment(image, out=tmp_path / "one", TEST__checkpoint="epoch_1.pth")
    newest, two, one = ((tmp_path / name / "0.png").read_bytes() for name in ("newest", "two", "one"))
    assert newest == two != one


def test_workers_change_nothing(segment, tmp_path, tiny):
    for workers in (0, 2):
        segment(tiny.folder / "validation", out=tmp_path / str(workers), TRAIN__workers=workers)
    for path in (tmp_path / "0").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def test_an_image_and_its_folder_named_together_are_drawn_once(segment, tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    segment(tmp_path / "a.png", tmp_path)
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]


def test_a_dataset_without_a_class_file_has_numbered_classes(segment, tmp_path, tiny):
    out = segment(tiny.folder / "validation" / "0.jpg", DATASET__classes="")
    assert re.search(r"class [123]: [\d.]+%", out)


def test_a_trained_model_is_all_that_is_needed(segment, tiny, trained, tmp_path):
    """Neither lists nor data folder are read."""
    shutil.copy(tiny.folder / "validation" / "0.jpg", tmp_path / "a.jpg")
    segment(tmp_path / "a.jpg", DATASET__list_train="no", DATASET__list_val="no", DATASET__root_dataset="no")
    assert (tmp_path / "out" / "a.png").exists()


def predict_own(process, options):
    """The message with which a process refuses to predict, given its own options."""
    try:
        predict_share(process, options[process.rank], None)
    except UserError as error:
        return gather_from_processes(str(error))
    return gather_from_processes("")


def test_processes_that_found_different_weights_do_not_mix_their_predictions():
    options = []
    for name in "ab":
        options.append(SimpleNamespace(fingerprint={"the encoder's checkpoint": name * 64}))
    first, second = in_processes(2, predict_own, options)
    assert first == second
    assert "does not predict with the same model as process 0" in first
    assert "the encoder's checkpoint differs" in first
