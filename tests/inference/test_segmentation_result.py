import io
import pickle

import numpy as np
import pytest
from PIL import Image

from mit_semseg.data.classes import ClassTable
from mit_semseg.errors import UserError
from mit_semseg.inference.segmentation import Segmentation

TABLE = ClassTable(
    ("sky", "road", "tree", "car"), np.array([[9, 9, 200], [80, 80, 80], [0, 160, 0], [200, 0, 0]], np.uint8)
)
LABELS = np.array([[0, 0, 0, 2], [1, 1, 1, 1], [1, 1, 0, 2]], np.uint8)  # 6 road, 4 sky, 2 tree of 12
IMAGE = np.random.Generator(np.random.Philox(2)).integers(0, 256, (3, 4, 3)).astype(np.uint8)


def chances(image):
    rng = np.random.Generator(np.random.Philox(4))
    scores = rng.random((4, *image.shape[:2])).astype(np.float32)
    return scores / scores.sum(0)


@pytest.fixture
def segmentation():
    return Segmentation(IMAGE, LABELS, TABLE, chances)


def test_shares_by_hand(segmentation):
    assert list(segmentation.shares.items()) == [("road", 6 / 12), ("sky", 4 / 12), ("tree", 2 / 12)]


def test_a_name_that_a_table_repeats_counts_once():
    table = ClassTable(("sky", "road", "sky", "car"), TABLE.colors)
    segmentation = Segmentation(IMAGE, LABELS, table)
    assert segmentation.shares == {"road": 6 / 12, "sky": 6 / 12}
    np.testing.assert_array_equal(segmentation.mask("sky"), LABELS != 1)


def test_the_mask_of_a_class_by_its_name_or_number(segmentation):
    np.testing.assert_array_equal(segmentation.mask("road"), LABELS == 1)
    np.testing.assert_array_equal(segmentation.mask(1), segmentation.mask("road"))
    assert segmentation.mask("car").dtype == bool
    assert not segmentation.mask("car").any()


def test_masks_cover_the_image_once(segmentation):
    assert (sum(segmentation.mask(name).astype(int) for name in segmentation.names) == 1).all()


def test_a_class_that_does_not_exist(segmentation):
    with pytest.raises(
        ValueError, match=r"^no class is called 'roads'\. Did you mean road\? The classes are "
    ):
        segmentation.mask("roads")
    with pytest.raises(
        ValueError, match=r"^no class is called 'x'\. The classes are sky, road, tree, car\.$"
    ):
        segmentation.mask("x")
    for number in (4, -1):
        with pytest.raises(ValueError, match=rf"^class {number} does not exist: the classes are 0 to 3$"):
            segmentation.mask(number)


def test_probabilities_are_computed_once_when_asked_for():
    calls = []
    segmentation = Segmentation(IMAGE, LABELS, TABLE, lambda image: calls.append(image) or chances(image))
    assert calls == []
    assert segmentation.probabilities is segmentation.probabilities
    assert len(calls) == 1
    np.testing.assert_array_equal(calls[0], IMAGE)
    del segmentation.probabilities
    assert segmentation.probabilities.shape == (4, 3, 4)
    assert len(calls) == 2


def test_it_pickles_without_its_model(segmentation):
    assert len(pickle.dumps(Segmentation(IMAGE, LABELS, TABLE, lambda image: image))) < 2000
    early = pickle.loads(pickle.dumps(segmentation))
    np.testing.assert_array_equal(early.labels, LABELS)
    assert repr(early) == repr(segmentation)
    with pytest.raises(RuntimeError, match=r"^This segmentation has no model, .* segment the image again"):
        _ = early.probabilities
    kept = segmentation.probabilities
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(segmentation)).probabilities, kept)


def test_pictures(segmentation):
    assert segmentation.overlay(1).tobytes() == TABLE.colors[LABELS].tobytes()
    assert segmentation.overlay(0).tobytes() == IMAGE.tobytes()
    half = np.asarray(segmentation.overlay()).astype(int)
    assert np.abs(2 * half - IMAGE - TABLE.colors[LABELS].astype(int)).max() <= 1
    row = np.asarray(segmentation.side_by_side())
    np.testing.assert_array_equal(row, np.concatenate([IMAGE, TABLE.colors[LABELS]], axis=1))
    for plain, explained in (
        (segmentation.overlay(), segmentation.overlay(legend=True)),
        (segmentation.side_by_side(), segmentation.side_by_side(legend=True)),
    ):
        assert explained.height > plain.height
        assert explained.crop((0, 0, *plain.size)).tobytes() == plain.tobytes()


def test_what_is_saved(segmentation, tmp_path):
    segmentation.save(tmp_path / "a.png")
    segmentation.save(str(tmp_path / "deep" / "b.PNG"), "overlay", legend=True)
    segmentation.save(tmp_path / "c.png", kind="labels")
    segmentation.save(tmp_path / "d.npz", "scores")
    assert Image.open(tmp_path / "a.png").tobytes() == segmentation.side_by_side().tobytes()
    assert Image.open(tmp_path / "deep" / "b.PNG").tobytes() == segmentation.overlay(legend=True).tobytes()
    with Image.open(tmp_path / "c.png") as labels:
        assert labels.mode == "L"
        np.testing.assert_array_equal(np.asarray(labels), LABELS + 1)
    with np.load(tmp_path / "d.npz") as scores:
        assert scores["probabilities"].dtype == np.float16
        np.testing.assert_allclose(scores["probabilities"], segmentation.probabilities, atol=1e-3)
        assert scores["names"].tolist() == ["sky", "road", "tree", "car"]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("count", "mode"), [(255, "L"), (256, "I;16")])
def test_labels_of_many_classes_take_16_bits(tmp_path, count, mode):
    table = ClassTable(tuple(map(str, range(count))), np.zeros((count, 3), np.uint8))
    Segmentation(IMAGE[:1, :2], np.array([[0, count - 1]], np.uint8), table).save(
        tmp_path / "a.png", "labels"
    )
    with Image.open(tmp_path / "a.png") as labels:
        assert labels.mode == mode
        assert np.asarray(labels).tolist() == [[1, count]]


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("a.png", "colours", "kind is 'colours', but takes one of side_by_side, overlay, labels, scores"),
        ("a.jpg", "labels", "path is 'a.jpg', but must end with .png for kind 'labels'"),
        ("a.png", "scores", "path is 'a.png', but must end with .npz for kind 'scores'"),
        ("a", "overlay", "path is 'a', but must end with .png for kind 'overlay'"),
    ],
)
def test_a_file_of_another_kind_or_ending_is_refused(segmentation, path, kind, message):
    with pytest.raises(ValueError, match=r"^(kind|path) is ") as caught:
        segmentation.save(path, kind)
    assert str(caught.value) == message


def test_the_image_itself_is_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(IMAGE).save("a.png")
    segmentation = Segmentation(IMAGE, LABELS, TABLE, source="a.png")
    with pytest.raises(UserError, match=r"a\.png is the image itself, which is never overwritten"):
        segmentation.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^alpha is 1\.5, but takes a number from 0 to 1$"):
        segmentation.overlay(1.5)
    (tmp_path / "a.png").unlink()
    segmentation.save("a.png")  # what is gone can't be overwritten


def test_a_file_is_saved_over_another_although_the_image_has_disappeared(tmp_path):
    source = tmp_path / "gone.png"
    segmentation = Segmentation(IMAGE, LABELS, TABLE, source=str(source))
    (tmp_path / "a.png").write_bytes(b"older")
    segmentation.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").tobytes() == segmentation.side_by_side().tobytes()
    segmentation.save(source)  # nothing is there to be overwritten
    assert source.exists()


def test_the_image_itself_is_never_overwritten_through_another_name(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    segmentation = Segmentation(IMAGE, LABELS, TABLE, source=str(tmp_path / "a.png"))
    with pytest.raises(UserError, match=r"link\.png is the image itself"):
        segmentation.save(tmp_path / "link.png")


def test_the_text_form(segmentation):
    assert repr(segmentation) == "<Segmentation 4 x 3, road 50.0 %, sky 33.3 %, tree 16.7 %>"
    busy = Segmentation(IMAGE, np.array([[0, 1, 2, 3]] * 3), TABLE, source="a/b.jpg")
    assert repr(busy) == "<Segmentation a/b.jpg: 4 x 3, sky 25.0 %, road 25.0 %, tree 25.0 %, and 1 more>"


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (1500, 3000), (3000, 1), (2, 2049)])
def test_a_notebook_shows_the_overlay_no_larger_than_a_screen(size):
    labels = np.resize(LABELS, size)
    png = Segmentation(np.zeros((*size, 3), np.uint8), labels, TABLE)._repr_png_()
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        assert max(picture.size) <= 1024 + 200  # and the legend
        assert len(png) < 3_000_000
