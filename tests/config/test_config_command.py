"""``mit-semseg config``, and docs/config.md, which it writes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mit_semseg.config.keys import KEYS, SECTIONS
from mit_semseg.config.show import as_markdown, as_text, search
from mit_semseg.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = [key.name for key in KEYS]


def shown(text):
    """The keys that a text describes, in their order."""
    return re.findall(r"^([A-Z]+(?:\.\w+)?) = ", text, re.MULTILINE)


def test_docs_config_md_is_what_the_command_prints(call):
    outcome = call("config", "--markdown")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (ROOT / "docs" / "config.md").read_text(), (
        "Run: mit-semseg config --markdown > docs/config.md"
    )


def test_without_words_all_keys_are_shown_by_section(call):
    outcome = call("config")
    assert (outcome.code, outcome.err) == (0, "")
    assert shown(outcome.out) == NAMES
    assert re.findall(r"^([A-Z]+): ", outcome.out, re.MULTILINE) == list(SECTIONS)


def test_an_entry_has_default_allowed_values_and_meaning():
    (key,) = search(["INFERENCE.amp"])
    assert as_text([key], 110) == (
        "INFERENCE: How images are scored, in validation, evaluation, prediction and the Python API.\n"
        "\n"
        "INFERENCE.amp = none  [none or bf16]\n"
        "    Number format of the network: none (float32), or bf16 (faster, slightly less accurate). "
        "Formerly VAL.amp.\n"
    )


@pytest.mark.parametrize("width", [80, 110])
def test_lines_fit_the_terminal(width):
    assert max(map(len, as_text(KEYS, width).splitlines())) <= width


def test_tables_of_the_page_are_whole():
    rows = [line for line in as_markdown(KEYS).splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}  # a bar in a cell would end it
    assert len(rows) == len(KEYS) + 2 * (len(SECTIONS) + 1)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("TRAIN.amp", ["TRAIN.amp"]),
        ("train.AMP", ["TRAIN.amp"]),
        ("DIR", ["DIR"]),
        ("val.amp", ["INFERENCE.amp"]),  # its former name
        ("TEST.legend TRAIN.seed", ["TRAIN.seed", "TEST.legend"]),
        (
            "inference",
            ["INFERENCE.amp", "INFERENCE.flip", "INFERENCE.threshold", "INFERENCE.tile", "INFERENCE.overlap"],
        ),
        ("INFERENCE. mirror", ["INFERENCE.flip"]),
        ("Tiles", ["INFERENCE.tile", "INFERENCE.overlap"]),
        ("boundary", ["VAL.boundary_iou"]),
        ("best checkpoint", ["TRAIN.keep_checkpoints", "VAL.checkpoint"]),
        ("fp16", ["TRAIN.amp"]),  # in the allowed values
        ("sizes random", ["DATASET.augment"]),
    ],
)
def test_words_select_keys(words, names):
    assert [key.name for key in search(words.split())] == names


def test_a_word_is_not_found_within_another_one():
    assert "TRAIN.tensorboard" not in [key.name for key in search(["amp"])]  # which writes samples


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("TRAIN.lr_encodr", "No config key matches 'TRAIN.lr_encodr'. Did you mean TRAIN.lr_encoder?"),
        ("lerning", "No config key matches 'lerning'. Did you mean learning?"),
        ("qqq", "No config key matches 'qqq'. mit-semseg config lists all keys."),
        ("INFERENCE momentum", "No config key matches all of: INFERENCE momentum."),
    ],
)
def test_words_that_match_nothing_are_refused(call, words, says):
    with pytest.raises(UserError) as caught:
        search(words.split())
    assert str(caught.value).startswith(says)
    outcome = call("config", *words.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(says)


@pytest.mark.parametrize("command", ["train", "eval", "test", "model"])
def test_help_names_the_command(call, command):
    assert "mit-semseg config [KEY or word ...]" in " ".join(call(command, "--help").out.split())


def test_it_imports_nothing_heavy():
    heavy = {"torch", "torchvision", "numpy", "PIL", "cv2", "scipy"}
    code = (
        "import sys; from mit_semseg.cli import main; code = main(['config']); "
        f"sys.exit(code or ' '.join({heavy} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(done.stdout) == NAMES
