import pickle
from pathlib import Path

import pytest

from mit_semseg.runtime.lines import Lines, numbered_lines
from mit_semseg.runtime.texts import Index, NumberedTexts, Texts, first_equals

WORDS = ["b/ä.jpg", "", "\udcff.jpg", "a\nb", "b/ä.jpg"]


class Alike(str):
    """A text whose hash is that of all others."""

    __slots__ = ()

    def __hash__(self):
        return 7

    def __eq__(self, other):
        return str.__eq__(self, other)


def test_texts_are_those_that_were_added_also_in_another_process():
    texts = Texts(WORDS)
    assert list(texts) == WORDS
    assert list(pickle.loads(pickle.dumps(texts))) == WORDS
    assert list(texts[1:3]) == WORDS[1:3]
    assert (len(texts), bool(Texts())) == (5, False)
    with pytest.raises(IndexError):
        texts[5]


def test_numbered_texts_are_found_by_their_numbers():
    texts = NumberedTexts()
    for number, text in ((3, "c"), (10**12, "x"), (10**12 + 1, "")):
        texts.add(number, text)
    assert [texts.get(number) for number in (0, 3, 4, 10**12, 10**12 + 1, 10**13)] == [
        *(None, "c", None, "x", "", None)
    ]


def test_each_text_names_the_first_one_that_is_equal():
    words = ["a", "b", "a", "c", "b", "a"]
    assert first_equals(6, words.__getitem__).tolist() == [0, 1, 0, 3, 1, 0]
    assert first_equals(0, words.__getitem__).tolist() == []


def test_texts_with_one_hash_are_told_apart():
    words = list(map(Alike, ["a", "b", "a", "c", "b", "a"]))
    assert first_equals(6, words.__getitem__).tolist() == [0, 1, 0, 3, 1, 0]


def test_an_index_finds_all_numbers_of_a_text_in_their_order():
    index = Index()
    for number, text in enumerate(["a", "b", "a", "c", "a"]):
        index.add(text, number)
    assert (index.find("a"), index.find("c"), index.find("d")) == ([0, 2, 4], [3], [])
    assert Index().find("a") == []


def test_lines_are_read_from_their_files_by_number(tmp_path):
    for name in "ab":
        Path(tmp_path, name).write_bytes(f"first {name}\n\nlast {name}".encode())
    with Lines() as lines:
        numbers = [
            lines.add(tmp_path / name, start) for name in "ab" for start, _ in numbered_lines(tmp_path / name)
        ]
        assert numbers == list(range(6))
        read = [lines.read(number) for number in (5, 0, 1, 3)]
    assert read == [b"last b", b"first a\n", b"\n", b"first b\n"]
    assert list(numbered_lines(tmp_path / "none")) == []
