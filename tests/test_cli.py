"""The command line: what it accepts, how it answers, and how fast it may be."""

import io
import sys
from pathlib import Path

import pytest

from mit_semseg import __version__
from mit_semseg.cli import main

SCRIPTS = {"train.py": "train", "eval_multipro.py": "eval", "test.py": "test"}
HEAVY = ("torch", "torchvision", "numpy", "scipy", "cv2", "PIL")


@pytest.fixture
def without(tmp_path):
    """The environment of a Python in which the named packages can't be imported."""

    def build(*packages):
        folder = tmp_path / "forbidden"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            "import sys\n"
            "class Forbid:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name.partition('.')[0] in {packages!r}:\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
            "sys.meta_path.insert(0, Forbid())\n"
        )
        return {"PYTHONPATH": str(folder)}

    return build


# Help, without which there is nothing to wait for


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_imports_nothing_heavy(script, without, name):
    outcome = script(name, "--help", environment=without(*HEAVY))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"usage: {name} ")
    assert "KEY VALUE" in outcome.out
    assert "--cfg FILE" in outcome.out
    assert ("--imgs PATH" in outcome.out) == (name == "test.py")


def test_a_mistake_in_the_config_is_answered_without_anything_heavy(script, without):
    outcome = script("train.py", "TRAIN.sed", "1", environment=without(*HEAVY))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "unknown key TRAIN.sed. Did you mean TRAIN.seed?\n"


@pytest.mark.parametrize(("package", "shown"), [("torch", "torch"), ("yacs", "yacs"), ("PIL", "PIL")])
def test_a_missing_package_says_what_to_run(script, without, package, shown):
    outcome = script("train.py", "--gpus", "cpu", environment=without(package))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"The package {shown} is missing. Run: pip install -r requirements.txt\n"


def test_the_program_as_a_whole_lists_its_commands_and_its_version(call):
    help_text = call("--help")
    assert help_text.code == 0
    for command in SCRIPTS.values():
        assert f"\n  {command} " in help_text.out
    assert call("--version").out == f"mit-semseg {__version__}\n"


@pytest.mark.parametrize("words", [[], ["paint"], ["--gpus", "0"]])
def test_an_unknown_command_is_refused(call, words):
    outcome = call(*words)
    assert outcome.code == 2
    assert "usage: mit-semseg COMMAND" in outcome.err


def test_an_unknown_option_is_refused(call, tiny):
    outcome = call("train", "--cfg", tiny.config, "--epochs", "3")
    assert outcome.code == 2
    assert "--epochs" in outcome.err


# Overrides


@pytest.fixture
def segmented(call, tiny, trained, tmp_path):
    """Whether ``test`` with these words draws its image into the folder that an override names."""
    image, out = tiny.folder / "validation" / "0.jpg", tmp_path / "out"

    def run(*words):
        places = {"IMAGE": image, "CONFIG": tiny.config, "RUN": trained, "OUT": out}
        outcome = call("test", *(places.get(word, word) for word in words))
        return outcome.code == 0 and (out / "0.png").is_file()

    return run


@pytest.mark.parametrize(
    "words",
    [
        "--imgs IMAGE --gpu cpu --cfg CONFIG DIR RUN TEST.result OUT",
        "--gpu cpu --cfg CONFIG --imgs IMAGE DIR RUN TEST.result OUT",
        "--gpu cpu --cfg CONFIG --imgs IMAGE IMAGE TEST.result OUT DIR RUN",
        "DIR RUN TEST.result OUT --imgs IMAGE --gpu cpu --cfg CONFIG",
        "--imgs IMAGE DIR RUN --gpu cpu TEST.result OUT --cfg CONFIG",
        "--imgs=IMAGE --gpu=cpu --cfg=CONFIG DIR RUN TEST.result OUT",
    ],
)
def test_config_keys_may_stand_anywhere_also_behind_the_images(segmented, tiny, words):
    if "=" in words:
        words = words.replace("IMAGE", str(tiny.folder / "validation" / "0.jpg"))
        words = words.replace("CONFIG", str(tiny.config))
    assert segmented(*words.split())


def test_an_image_called_like_a_config_key_may_come_first(call, tiny, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").write_bytes((tiny.folder / "validation" / "0.jpg").read_bytes())
    outcome = call("test", "--imgs", "DIR", "--gpu", "cpu", "--cfg", tiny.config, "DIR", trained)
    assert outcome.code == 0
    assert (tmp_path / "DIR.png").is_file()


def test_a_negative_value_is_a_value_and_no_option(call, tiny):
    outcome = call("train", "--cfg", tiny.config, "TRAIN.seed", "-1")
    assert outcome.err == "TRAIN.seed is -1, but takes whole numbers from 0 to 2147483647.\n"


# Its end


def test_a_name_that_the_terminal_can_not_show_is_no_reason_to_fail(tiny, trained, tmp_path, monkeypatch):
    """Chinese class names on a Western console, or a file name that is no text at all."""
    (tmp_path / "classes.csv").write_text("index,name\n1,天空\n2,建筑\n3,路\n", encoding="utf-8")
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    words = tiny.overrides(DIR=trained, DATASET__classes=tmp_path / "classes.csv")
    assert main(["eval", "--gpus", "cpu", "--cfg", str(tiny.config), *words]) == 0
    console.flush()
    assert b"\\u5929\\u7a7a" in console.buffer.getvalue()


def test_the_scripts_are_thin():
    for name in SCRIPTS:
        assert len((Path(__file__).resolve().parent.parent / name).read_text().splitlines()) < 60


# The whole way, as a user goes it


def test_train_evaluate_and_predict_from_another_folder(script, tiny, tmp_path):
    words = ("--cfg", tiny.config, "DIR", "run", "TRAIN.num_epoch", 1)
    trained = script("train.py", "--gpus", "cpu", *words)
    assert (trained.code, trained.err) == (0, "")
    scored = script("eval_multipro.py", "--gpus", "cpu", *words)
    assert (scored.code, scored.err) == (0, "")
    assert "Mean IoU: 0." in scored.out
    image = tiny.folder / "validation" / "0.jpg"
    drawn = script("test.py", "--imgs", image, "--gpu", "cpu", *words, "TEST.result", "out")
    assert (drawn.code, drawn.err) == (0, "")
    assert (tmp_path / "out" / "0.png").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
