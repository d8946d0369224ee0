"""Merging, checking and freezing configs; what a user gets wrong in one is in test_bad_input.py."""

import ast
from pathlib import Path

import pytest
import yaml

from mit_semseg.config import cfg, defaults, get_defaults, load_config
from mit_semseg.errors import UserError


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_without_a_file_the_config_is_the_defaults():
    assert load_config() == get_defaults()


def test_a_value_on_the_command_line_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("TRAIN: {seed: 5, num_epoch: 7}\nDIR: here\n")
    config = load_config(str(file), ["TRAIN.seed", "6"])
    assert (config.TRAIN.seed, config.TRAIN.num_epoch, config.TRAIN.epoch_iters) == (6, 7, 5000)
    assert config.DIR == "here"


def test_of_several_files_a_later_one_changes_keys_of_those_before(tmp_path):
    recipe, data = tmp_path / "recipe.yaml", tmp_path / "data.yaml"
    recipe.write_text("TRAIN: {seed: 5, num_epoch: 7}\nDIR: here\n")
    data.write_text("TRAIN: {num_epoch: 8}\nDIR: there\n")
    config = load_config([str(recipe), str(data)], ["TRAIN.epoch_iters", "9"])
    assert (config.TRAIN.seed, config.TRAIN.num_epoch, config.TRAIN.epoch_iters) == (5, 8, 9)
    assert config.DIR == "there"


def test_the_last_of_two_overrides_wins():
    assert load_config(None, ["TRAIN.seed", "1", "TRAIN.seed", "2"]).TRAIN.seed == 2


def test_a_loaded_config_is_frozen_and_the_imported_one_is_not():
    with pytest.raises(AttributeError, match="immutable"):
        load_config().TRAIN.seed = 1
    before = cfg.TRAIN.seed
    cfg.TRAIN.seed = 1
    cfg.TRAIN.seed = before


def test_loading_changes_no_default():
    before = get_defaults()
    load_config(None, ["TRAIN.seed", "77", "DATASET.imgSizes", "(1, 2)"])
    assert get_defaults() == before == cfg


def test_the_imported_config_merges_files_and_lists_and_takes_new_keys(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text('DATASET: {imgSizes: "(32, 48)"}\nTRAIN: {seed: 5}\n')
    own = cfg.clone()
    own.merge_from_file(str(file))
    own.merge_from_list(["TRAIN.num_epoch", 3])
    own.TRAIN.max_iters = 12
    assert (own.TRAIN.seed, own.TRAIN.num_epoch, own.TRAIN.max_iters) == (5, 3, 12)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("TRAIN.lr_encoder", "1", 1.0),
        ("TRAIN.lr_encoder", "1e-4", 1e-4),
        ("TRAIN.lr_encoder", " .5 ", 0.5),
        ("TRAIN.seed", "0", 0),
        ("TRAIN.fix_bn", "True", True),
        ("DATASET.imgSizes", "(300, 375)", (300, 375)),
        ("DATASET.imgSizes", "[300,375]", (300, 375)),
        ("DATASET.imgSizes", "300, 375", (300, 375)),
        ("DATASET.imgSizes", "300", (300,)),
        ("DIR", "2024", "2024"),
        ("DIR", "True", "True"),
        ("DIR", "a b", "a b"),
        ("VAL.checkpoint", "", ""),
        ("VAL.checkpoint", "None", "None"),
    ],
)
def test_a_text_becomes_the_type_of_the_default(key, text, value):
    section, _, leaf = key.rpartition(".")
    config = load_config(None, [key, text])
    new = (config[section] if section else config)[leaf]
    assert new == value
    assert type(new) is type(value)


@pytest.mark.parametrize("number", ["1", "1e-4", '"0.5"', "2.0"])
def test_yaml_numbers_become_floats(tmp_path, number):
    file = tmp_path / "a.yaml"
    file.write_text(f"TRAIN: {{lr_encoder: {number}}}")
    value = load_config(str(file)).TRAIN.lr_encoder
    assert type(value) is float
    assert value == float(number.strip('"'))


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n", "---\n", "TRAIN:\n", "TRAIN: {}\n"])
def test_a_file_that_says_nothing_changes_nothing(tmp_path, content):
    file = tmp_path / "a.yaml"
    file.write_text(content)
    assert load_config(str(file)) == get_defaults()


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfTRAIN:\r\n  seed: 5\r\n")
    assert load_config(str(file)).TRAIN.seed == 5


def test_what_a_run_leaves_as_config_yaml_loads_as_the_same_config(tmp_path):
    config = load_config(None, ["DATASET.imgSizes", "(1, 2)", "DIR", "2024", "TRAIN.lr_encoder", "1e-5"])
    file = tmp_path / "config.yaml"
    file.write_text(config.dump())
    assert load_config(str(file)) == config


def test_the_nearest_name_is_found_whatever_the_case_and_section():
    with pytest.raises(UserError) as caught:
        load_config(None, ["train.Num_Epochs", "1", "MODEL.optim", "SGD", "imgsizes", "3"])
    assert str(caught.value).splitlines() == [
        "unknown key train.Num_Epochs. Did you mean TRAIN.num_epoch?",
        "unknown key MODEL.optim. Did you mean TRAIN.optim?",
        "unknown key imgsizes. Did you mean DATASET.imgSizes?",
    ]


def test_values_out_of_their_limits_are_reported_together():
    words = ["TRAIN.num_epoch", "0", "DATASET.imgMaxSize", "0", "TRAIN.beta1", "1.5"]
    with pytest.raises(UserError) as caught:
        load_config(None, words)
    text = str(caught.value)
    assert all(key in text for key in words[::2])
    assert len(text.splitlines()) == 3


def test_every_key_stands_with_its_meaning():
    source = Path(defaults.__file__).read_text()
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and "CfgNode" not in ast.unparse(node.value):
            name = ast.unparse(node.targets[0])
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            # The decoder's rate has the same meaning as the encoder's above it.
            assert "#" in text or name == "_C.TRAIN.lr_decoder" or "list_val" in name, name


def test_every_key_has_a_type_that_yaml_can_hold():
    for key, value in leaves(get_defaults()):
        assert type(value) in (bool, int, float, str, tuple), key
        if isinstance(value, tuple):
            value = list(value)
        assert yaml.safe_load(yaml.safe_dump(value)) == value


def test_the_number_of_workers_may_be_left_to_the_program_by_a_word(tmp_path):
    (tmp_path / "a.yaml").write_text("TRAIN: {workers: auto}")
    assert load_config(str(tmp_path / "a.yaml")).TRAIN.workers == -1
    assert load_config(None, ["TRAIN.workers", "auto"]).TRAIN.workers == -1
    assert load_config(None, ["TRAIN.workers", "3"]).TRAIN.workers == 3
    with pytest.raises(UserError, match="takes whole numbers from -1"):
        load_config(None, ["TRAIN.workers", "-2"])
    with pytest.raises(UserError, match="'many', but takes a whole number"):
        load_config(None, ["TRAIN.workers", "many"])


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("DATASET.on_error", "ignore", "takes raise or skip"),
        ("DATASET.crop_size", "(512,)", "takes two whole numbers above 0"),
        ("DATASET.crop_size", "(512, 1.5)", "takes two whole numbers above 0"),
        ("DATASET.crop_max_share", "0", "takes a share above 0, up to 1"),
        ("DATASET.scale_range", "(2, 0.5)", "the smaller first"),
        ("DATASET.scale_range", "(0, 1)", "takes two numbers above 0"),
        ("DATASET.label_offset", "-1", "from 0"),
        ("DATASET.ignore_label", "-2", "from -1"),
    ],
)
def test_keys_of_the_data_have_their_limits(key, value, says):
    with pytest.raises(UserError) as caught:
        load_config(None, [key, value])
    assert key in str(caught.value)
    assert says in str(caught.value)
