"""The table of config keys, and the values that keys allow."""

import math
import re
from pathlib import Path

import pytest
import yaml

from mit_semseg.config import get_defaults, load_config
from mit_semseg.config.allowed import (
    LARGEST,
    Choice,
    ClassWeights,
    Integer,
    ListOf,
    Names,
    Number,
    Options,
    Paths,
    Switch,
    Text,
    parse_class_weights,
)
from mit_semseg.config.keys import BY_NAME, KEYS, RENAMED, SECTIONS, nearest
from mit_semseg.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = sorted([*(ROOT / "config").glob("*.yaml"), *(ROOT / "ckpt").glob("released/*/config.yaml")])
NAMES = [key.name for key in KEYS]

# The keys of the old package, which other people's configs and code name.
OLD = {
    "": "DIR",
    "DATASET": "root_dataset list_train list_val num_class imgSizes imgMaxSize padding_constant "
    "segm_downsampling_rate random_flip",
    "MODEL": "arch_encoder arch_decoder weights_encoder weights_decoder fc_dim",
    "TRAIN": "batch_size_per_gpu num_epoch start_epoch epoch_iters optim lr_encoder lr_decoder lr_pow beta1 "
    "weight_decay deep_sup_scale fix_bn workers disp_iter seed",
    "VAL": "batch_size visualize checkpoint",
    "TEST": "batch_size checkpoint result",
}

# Values of the wrong kind or beyond a bound, at least one for each kind.
REFUSED = {
    Switch: (2, "yes", None),
    Integer: (1.5, True, "many", 2**31, -(2**31)),
    Number: (math.nan, math.inf, "fast", -math.inf, [1]),
    Choice: ("no such choice", 3, 1.5),
    Text: (["a", "list"], "a\0b", True),
    Paths: (True, {"a": 1}, ("a", None), "a\0b"),
    Names: ((1, 2), True, {"a": 1}),
    ListOf: ("big", (1, "a"), (True, True), (-1, math.nan), {"a": 1}),
    Options: ("a: [", "5", "a: {b: 1}", "a: [[1]]", "a: null", 'a: "b', True, ["a"], "}, {", "1: 2"),
    ClassWeights: ("median", "[0, 0]", "[1, -1]", "[1, nan]", "{}", True),
}


def read_and_check(key, value):
    """The refusal of a value, or None."""
    try:
        new = key.read(value)
    except ValueError as error:
        return str(error)
    return None if key.allowed.admits(new) else key.refusal(new)


# The table


def test_names_are_unique_and_belong_to_a_section():
    assert len(set(NAMES)) == len(NAMES)
    assert {key.section for key in KEYS} == {"", *SECTIONS}
    assert not RENAMED.keys() & set(NAMES)


@pytest.mark.parametrize("section", OLD)
def test_every_key_of_the_old_package_keeps_its_name_and_place(section):
    prefix = f"{section}." if section else ""
    assert {f"{prefix}{leaf}" for leaf in OLD[section].split()} <= set(NAMES)


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_a_key_has_a_meaning_and_a_default_that_is_allowed(key):
    assert re.fullmatch(r"[A-Z`c].*\.", key.meaning), key.meaning
    assert key.meaning.count("`") % 2 == 0
    assert key.allowed.admits(key.default)
    new = key.read(key.default)
    assert new == key.default
    assert type(new) is type(key.default)


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_a_default_survives_yaml_and_the_command_line(key):
    plain = list(key.default) if isinstance(key.default, tuple) else key.default
    assert key.read(yaml.safe_load(yaml.safe_dump(plain))) == key.default
    assert key.read(str(key.default)) == key.default


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_a_key_refuses_values_in_words_that_name_key_value_and_what_is_allowed(key):
    for value in REFUSED[type(key.allowed)]:
        message = read_and_check(key, value)
        if value is None and key.default == "":
            continue
        assert message is not None, value
        assert message.startswith(f"{key.name} is ")
        assert f", but must be {key.values}" in message
        assert str(value) in message or repr(value) in message


def test_a_choice_of_the_table_is_also_in_the_meaning_unless_it_speaks_for_itself():
    """A meaning must explain each name that can be chosen."""
    spoken = {"TRAIN.lr_schedule", "MODEL.output_stride", "TEST.batch_size"}
    for key in KEYS:
        if isinstance(key.allowed, Choice) and key.name not in spoken:
            for choice in key.allowed.choices:
                assert str(choice) in key.meaning, (key.name, choice)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.parent.name + "/" + file.name)
def test_every_key_of_a_shipped_config_is_in_the_table_under_its_current_name(file):
    tree = yaml.safe_load(file.read_text())
    names = {
        f"{section}.{leaf}" if isinstance(value, dict) else section
        for section, value in tree.items()
        for leaf in (value if isinstance(value, dict) else [""])
    }
    assert names <= set(NAMES)


def test_the_tree_of_defaults_has_the_keys_of_the_table_and_is_a_copy():
    tree = get_defaults()
    leaves = [
        f"{name}.{leaf}" if isinstance(value, dict) else name
        for name, value in tree.items()
        for leaf in (value if isinstance(value, dict) else [""])
    ]
    assert leaves == NAMES
    tree.TRAIN.seed = 1
    assert get_defaults().TRAIN.seed == 304


# Kinds of values


@pytest.mark.parametrize(
    ("allowed", "words", "admitted", "refused"),
    [
        (Switch(), "True or False", (True, False), (1, "True")),
        (Integer(1), "an integer >= 1", (1, LARGEST), (0, LARGEST + 1, 1.0, True)),
        (Integer(-1, 8), "an integer >= -1 and <= 8", (-1, 8), (-2, 9)),
        (Number(at_least=0), "a number >= 0", (0, 0.5, 1e300), (-1e-9, math.inf, math.nan, True, "1")),
        (Number(above=0, at_most=1), "a number > 0 and <= 1", (1e-9, 1), (0, 1.1)),
        (Number(at_least=0, below=1, other=(-1,)), "a number >= 0 and < 1, or -1", (0, -1.0), (1, -0.5)),
        (Choice("a", "b", "c"), "a, b or c", ("a", "c"), ("", "A", "d")),
        (Choice(0, 8), "0 or 8", (0, 8), (False, 8.0, 16)),
        (Text("a folder"), "a folder", ("", "x"), (None, "a\0b")),
        (Text("a run", required=True), "a run", ("x",), ("",)),
        (ListOf(Integer(1)), "one or more integers >= 1", ((1,), [2, 3]), ((), (0,), (1.0,), 1)),
        (ListOf(Integer(1), length=2), "two integers >= 1", ((1, 1),), ((1,), (1, 1, 1))),
        (
            ListOf(Number(above=0), length=2, ascending=True),
            "two numbers > 0, the smaller first",
            ((1, 1.5), (2, 2)),
            ((2, 1), (0, 1)),
        ),
        (ListOf(Number(above=0), optional=True), "a list of numbers > 0", ((), (12, 16.5)), ((0,),)),
        (Names(), "one or more names, separated by commas", (("a", "b"),), ((1,), "a")),
        (
            Names(among=("a", "b"), optional=True),
            "one or more of a, b, separated by commas, or empty",
            ((), ("a",), ("b", "a")),
            (("c",), "a"),
        ),
        (Paths(), "one or more paths, separated by commas", (("a/b", "c"),), ((), ("",), "a")),
        (ClassWeights(), str(ClassWeights()), ("", "enet", "[0, 1.5]"), ("[0]", "[-1]", "mean", None)),
    ],
    ids=str,
)
def test_a_kind_of_values_admits_what_its_words_say(allowed, words, admitted, refused):
    assert str(allowed) == words
    assert [allowed.admits(value) for value in admitted] == [True] * len(admitted)
    assert [allowed.admits(value) for value in refused] == [False] * len(refused)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        (" enet ", "enet"),
        ("[1, 2.5, 0]", (1.0, 2.5, 0.0)),
        ("(1, 2)", (1.0, 2.0)),
        ("1, 2", (1.0, 2.0)),
    ],
)
def test_class_weights_are_a_name_or_numbers(text, value):
    assert parse_class_weights(text) == value


@pytest.mark.parametrize(
    "text", ["mean", "1", "[0, 0]", "[1, -1]", "[1, 1e999]", "[True]", "[[1]]", "{1: 2}", "["]
)
def test_other_class_weights_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the table has the words
        parse_class_weights(text)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("DATASET.on_error", "ignore", "'ignore', but must be raise or skip."),
        ("DATASET.crop_size", "(512,)", "(512,), but must be two integers >= 1 and <= 65536."),
        ("DATASET.crop_size", "(512, 1.5)", "(512, 1.5), but must be two integers >= 1 and"),
        ("DATASET.crop_max_share", "0", "0.0, but must be a number > 0 and <= 1."),
        ("DATASET.scale_range", "(2, 0.5)", "(2, 0.5), but must be two numbers > 0 and <= 1000, the smaller"),
        ("DATASET.scale_range", "(0, 1)", "(0, 1), but must be two numbers > 0"),
        ("DATASET.label_offset", "-1", "-1, but must be an integer >= 0."),
        ("DATASET.ignore_label", "-2", "-2, but must be an integer >= -1."),
        ("DATASET.imgSizes", "(2147483648,)", "but must be one or more integers >= 1 and <= 65536"),
        ("DATASET.imgSizes", "(65537,)", "but must be one or more integers >= 1 and <= 65536."),
        ("DATASET.imgMaxSize", "65537", "65537, but must be an integer >= 1 and <= 65536."),
        ("DATASET.padding_constant", "4104", "4104, but must be an integer >= 1 and <= 4096."),
        ("DATASET.num_class", "65536", "65536, but must be an integer >= 2 and <= 65535."),
        ("TRAIN.batch_size_per_gpu", "2147483647", "2147483647, but must be an integer >= 1 and <= 4096."),
        ("TRAIN.num_epoch", "2147483648", "but must be an integer >= 1, and <= 2147483647."),
        ("TRAIN.lr_encoder", "1e308", "1e+308, but must be a number >= 0 and <= 1e+30."),
        ("TRAIN.weight_decay", "1e39", "1e+39, but must be a number >= 0 and <= 1000."),
        ("TRAIN.focal_gamma", "nan", "'nan', but must be a number >= 0 and <= 100."),
        ("TRAIN.resume", "", "'', but must be off, auto, a state file, or the folder of a run."),
        ("TRAIN.timeout", "inf", "'inf', but must be a number >= 1 and <= 604800."),
        ("TRAIN.timeout", "1e999", "inf, but must be a number >= 1 and <= 604800, and finite."),
        ("TRAIN.timeout", "604801", "604801.0, but must be a number >= 1 and <= 604800."),
        ("INFERENCE.amp", "fp16", "'fp16', but must be none or bf16."),
        ("INFERENCE.tile", "-1", "-1, but must be an integer >= 0."),
    ],
)
def test_a_value_beyond_its_limits_is_refused(key, value, says):
    with pytest.raises(UserError) as caught:
        load_config(None, [key, value])
    assert str(caught.value).startswith(f"{key} is ")
    assert says in str(caught.value)


# The nearest key


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("TRAIN.lr_encodr", "TRAIN.lr_encoder"),
        ("MODEL.optim", "TRAIN.optim"),
        ("imgsizes", "DATASET.imgSizes"),
        ("TEST.flip", "INFERENCE.flip"),
        ("seeed", "TRAIN.seed"),
        ("x", ""),
    ],
)
def test_the_nearest_key(name, near):
    assert nearest(name) == near
    assert near in (*BY_NAME, "")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", ()),
        ("ckpt/a", ("ckpt/a",)),
        ("ckpt/a, b c/d", ("ckpt/a", "b c/d")),
        ("('a,b', 'c')", ("a,b", "c")),
        (["x", "y"], ("x", "y")),
        (2024, ("2024",)),
    ],
)
def test_paths_are_separated_by_commas(text, paths):
    assert Paths().read(text) == paths
