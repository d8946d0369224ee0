"""Paths that do not exist, beside nearly equal ones that do."""

import os
from pathlib import Path

import pytest

from mit_semseg.runtime.near_names import did_you_mean

NFC, NFD = "K\u00f6ln.jpg", "Ko\u0308ln.jpg"


@pytest.mark.parametrize(
    ("there", "named", "says"),
    [
        ("photos/3.jpg", "photos/3.JPG", " Did you mean {there}?"),
        ("Photos/3.jpg", "photos/3.JPG", " Did you mean {there}?"),
        ("photos/3.jpg", "Photos\\3.jpg", " Did you mean {there}?"),
        ("3.jpg", "3.jpg ", " Did you mean '{there}', with other spaces?"),
        ("3.jpg ", "3.JPG", " Did you mean '{there}', with other spaces?"),
        (
            NFD,
            NFC,
            " Did you mean {there}, whose letters with accents are decomposed (NFD)? Copy its name, or ",
        ),
        (
            NFC,
            NFD,
            " Did you mean {there}, whose letters with accents are composed (NFC)? Copy its name, or "
            "rename it.",
        ),
        (NFD, NFC.upper(), " Did you mean {there}?"),
        ("3.jpg", "4.jpg", ""),
        ("3.jpg", "3.jpg", ""),
        ("3.jpg", "3.JPG/4.jpg", ""),
        ("3.jpg", "3.jpg/", " Did you mean {there}?"),
        ("3.jpg", "x" * 300, ""),
        ("3.jpg", "\0", ""),
    ],
)
def test_a_nearly_equal_path_is_named(tmp_path, there, named, says):
    file = tmp_path / there
    file.parent.mkdir(exist_ok=True)
    file.touch()
    found = did_you_mean(f"{tmp_path}/{named}")
    assert found.startswith(says.format(there=file))
    assert bool(found) == bool(says)


def test_a_relative_path_and_a_folder_that_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert did_you_mean("a/B.jpg") == did_you_mean("") == ""
    (tmp_path / "A").mkdir()
    assert did_you_mean("a/B.jpg") == ""
    (tmp_path / "A" / "b.jpg").touch()
    os.utime(tmp_path / "A", ns=(0, 1))  # a change within the resolution of the clock may go unnoticed
    assert did_you_mean("a/B.jpg") == f" Did you mean {Path('A', 'b.jpg')}?"
