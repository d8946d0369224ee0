"""run.json: who a run is, from its start on."""

import json

import pytest

from mit_semseg.tracking import read_identity, write_identity


def test_a_resumed_run_keeps_its_identity_and_records_its_new_config(tmp_path):
    first, known = write_identity(tmp_path, "A: 1", resumed=False)
    assert not known
    assert write_identity(tmp_path, "A: 2", resumed=True) == (first, True)
    assert read_identity(tmp_path) == {"id": first, "config": "A: 2"}


def test_a_new_run_gets_a_new_identity_and_so_does_one_of_an_earlier_release(tmp_path):
    first, _ = write_identity(tmp_path, "A: 1", resumed=False)
    second, known = write_identity(tmp_path, "A: 1", resumed=False)
    assert first != second
    assert not known
    assert write_identity(tmp_path / "older", "A: 1", resumed=True)[1] is False


@pytest.mark.parametrize("content", ["", "[1]", '{"id": 5, "config": ""}', '{"id": "a"}', "[" * 100_000])
def test_a_damaged_file_counts_as_none(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert read_identity(tmp_path) == {}
    identity, known = write_identity(tmp_path, "A: 1", resumed=True)
    assert not known
    assert json.loads((tmp_path / "run.json").read_text())["id"] == identity
