"""Merging, checking and freezing configs; what a user gets wrong in one is in test_bad_input.py."""

import pytest

from mit_semseg.config import cfg, get_defaults, load_config
from mit_semseg.errors import UserError


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


def test_the_number_of_workers_may_be_left_to_the_program_by_a_word(tmp_path):
    (tmp_path / "a.yaml").write_text("TRAIN: {workers: auto}")
    assert load_config(str(tmp_path / "a.yaml")).TRAIN.workers == -1
    assert load_config(None, ["TRAIN.workers", "auto"]).TRAIN.workers == -1
    assert load_config(None, ["TRAIN.workers", "3"]).TRAIN.workers == 3
    with pytest.raises(UserError, match=r"is -2, but must be an integer >= -1, or auto\.$"):
        load_config(None, ["TRAIN.workers", "-2"])
    with pytest.raises(UserError, match=r"is 'many', but must be an integer >= -1, or auto\.$"):
        load_config(None, ["TRAIN.workers", "many"])


def written(tmp_path, text):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "TRAIN:\n  seed: 1\n  num_epoch: 3\n  seed: 2\n",
            "line 4, column 3: seed has another value on line 2",
        ),
        (
            "TRAIN: {seed: 1}\nVAL:\n  every: 1\nTRAIN: {num_epoch: 3}\n",
            "line 4, column 1: TRAIN has another",
        ),
        ("TRAIN: {seed: 1, seed: '1'}\n", "line 1, column 18: seed has another"),
    ],
)
def test_a_key_with_two_values_in_a_file_is_refused(tmp_path, text, place):
    with pytest.raises(UserError) as error:
        load_config(written(tmp_path, text))
    assert f"is not a YAML file: {place}" in str(error.value)


@pytest.mark.parametrize("value", ["!!timestamp a", "!!bool a", "!!int ''"])
def test_a_value_that_is_not_of_the_type_of_its_tag_is_refused(tmp_path, value):
    with pytest.raises(
        UserError, match="is not a YAML file: line 2, column 9: a value is not of its type tag:yaml"
    ):
        load_config(written(tmp_path, f"TRAIN:\n  seed: {value}\n"))


def test_a_value_given_twice_is_one_value_and_a_merged_mapping_can_be_overridden(tmp_path):
    text = "TRAIN: &train\n  seed: 5\n  seed: 5\nVAL: {<<: {every: 1, batch_size: 2}, every: 3}\n"
    config = load_config(written(tmp_path, text))
    assert (config.TRAIN.seed, config.VAL.every, config.VAL.batch_size) == (5, 3, 2)


BOMB = "a0: &a0 [1, 2]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("VAL: &a {every: *a}\n", "unknown key VAL.every.every.every"),
        ("x: &a [*a]\n", "unknown key x."),
        ("TRAIN: {seed: &a [*a]}\n", "TRAIN.seed is [[[[...]]]], but must be an integer"),
        (f"x: {'[' * 5000}{']' * 5000}\n", "its values are nested too deeply."),
        (f"{BOMB}TRAIN: {{seed: *a39}}\n", "TRAIN.seed is [[["),
        (f"{BOMB}TRAIN: {{class_weights: *a39}}\n", "TRAIN.class_weights is [[["),
        (
            f"TRAIN: {{seed: 0x{'f' * 5000}}}\n",
            "TRAIN.seed is a number of more than 4300 digits, but must be",
        ),
        (f"DIR: 0x{'f' * 5000}\n", "DIR is a number of more than 4300 digits, but must be a folder"),
    ],
)
def test_a_value_that_cannot_be_written_out_is_refused_in_a_short_message(tmp_path, text, says):
    with pytest.raises(UserError) as error:
        load_config(written(tmp_path, text))
    assert says in str(error.value)
    assert len(str(error.value)) < 5000
