"""Keys under their former names, which configs and states of release 2.0.0 have."""

import warnings

import pytest

from mit_semseg.config import cfg, current_names, get_defaults, load_config, with_keys
from mit_semseg.config.keys import RENAMED
from mit_semseg.errors import UserError
from mit_semseg.inference.load import read_config

NOW = r"^VAL\.amp is now INFERENCE\.amp\. The old names still work; use the new ones\.$"


def test_a_former_name_sets_the_key_with_one_warning():
    with pytest.warns(FutureWarning, match=NOW) as caught:
        config = load_config(None, ["VAL.amp", "bf16"])
    assert len(caught) == 1
    assert config.INFERENCE.amp == "bf16"
    assert "amp" not in config.VAL


def test_one_warning_names_all_of_them_and_the_file(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("VAL: {amp: bf16, flip: true, tile: 512, overlap: 64, every: 2}")
    with pytest.warns(FutureWarning) as caught:
        config = load_config(str(file), ["VAL.tile", "640"])
    assert dict(config.INFERENCE) == {
        "amp": "bf16",
        "flip": True,
        "tile": 640,
        "overlap": 64,
        "threshold": 0.5,
    }
    assert config.VAL.every == 2
    (warning,) = caught
    assert [f"{file}: {old} is now {new}" in str(warning.message) for old, new in RENAMED.items()] == [
        True
    ] * 4


@pytest.mark.parametrize(
    "words", [["VAL.amp", "bf16", "INFERENCE.amp", "none"], ["INFERENCE.amp", "none", "VAL.amp", "bf16"]]
)
def test_both_names_with_different_values_are_refused(words):
    with pytest.raises(UserError) as caught:
        load_config(None, words)
    assert str(caught.value) == (
        "VAL.amp is 'bf16' and INFERENCE.amp is 'none', but VAL.amp is the former name of INFERENCE.amp. "
        "Remove VAL.amp."
    )


def test_a_file_with_both_names_and_different_values_is_refused_even_if_one_is_the_default(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("VAL: {flip: true}\nINFERENCE: {flip: false}")
    with pytest.raises(UserError) as caught:
        load_config(str(file))
    assert str(caught.value).startswith(
        f"{file}: VAL.flip is True and INFERENCE.flip is False, but VAL.flip is"
    )


@pytest.mark.parametrize("words", [["VAL.tile", "64", "INFERENCE.tile", "64"], ["INFERENCE.tile", "64"]])
def test_both_names_with_one_value_and_a_later_source_are_clear(tmp_path, words):
    """The command line overrides a file, whichever of the names each of them uses."""
    file = tmp_path / "a.yaml"
    file.write_text("VAL: {tile: 32}")
    with pytest.warns(FutureWarning):
        assert load_config(str(file), words).INFERENCE.tile == 64


def test_a_bad_value_under_a_former_name_is_refused():
    with pytest.raises(UserError, match=r"^INFERENCE\.amp is 'fp16', but must be none or bf16\.$"):
        load_config(None, ["VAL.amp", "fp16"])


def test_current_names_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_config(None, ["INFERENCE.amp", "bf16", "VAL.every", "1"])


def test_the_imported_tree_refuses_a_former_name_with_the_new_one(tmp_path):
    """Its own methods are those of yacs, which knows no way to follow a renaming."""
    file = tmp_path / "a.yaml"
    file.write_text("VAL: {amp: bf16}")
    for merge, source in (
        (cfg.clone().merge_from_file, str(file)),
        (cfg.clone().merge_from_list, ["VAL.amp", "bf16"]),
    ):
        with pytest.raises(KeyError, match=r"VAL\.amp was renamed to INFERENCE\.amp"):
            merge(source)


@pytest.mark.parametrize("function", [read_config, lambda tree: with_keys(tree, {})])
def test_a_tree_with_former_names_is_understood(function):
    tree = get_defaults()
    for old, value in (("amp", "bf16"), ("flip", True), ("tile", 512), ("overlap", 0)):
        tree.VAL[old] = value
    for complete in (True, False):  # a tree of release 2.0.0 has no section INFERENCE at all
        if not complete:
            del tree["INFERENCE"]
        with pytest.warns(FutureWarning, match=r"VAL\.amp is now INFERENCE\.amp, VAL\.flip is now") as caught:
            config = function(tree)
        assert len(caught) == 1
        assert dict(config.INFERENCE) == {
            "amp": "bf16",
            "flip": True,
            "tile": 512,
            "overlap": 0,
            "threshold": 0.5,
        }
        assert not {"amp", "flip", "tile", "overlap"} & set(config.VAL)
        assert tree.VAL.amp == "bf16"  # the caller's tree stays as it is


def test_a_tree_with_two_values_for_a_key_is_refused():
    tree = get_defaults()
    tree.VAL.tile, tree.INFERENCE.tile = 256, 512
    with pytest.raises(UserError, match=r"^VAL\.tile is 256 and INFERENCE\.tile is 512, but VAL\.tile is"):
        with_keys(tree, {})


def test_stored_values_get_the_current_names():
    assert current_names({"VAL.amp": "bf16", "VAL.every": 1, "the version": 2}) == {
        "INFERENCE.amp": "bf16",
        "VAL.every": 1,
        "the version": 2,
    }


def test_the_command_line_says_it_in_one_plain_line(call, monkeypatch):
    words = ("model", "VAL.amp", "bf16", "MODEL.arch_encoder", "nothing")
    line = "VAL.amp is now INFERENCE.amp. The old names still work; use the new ones.\n"
    outcome = call(*words)
    assert outcome.code == 2
    assert outcome.err.startswith(f"{line}MODEL.arch_encoder is 'nothing'")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("mit_semseg.cli._GRACE_S", 0)
    assert line not in call(*words).err
