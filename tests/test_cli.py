"""The command line: what it accepts, how it answers, and how fast it may be."""

import errno
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, Outcome

from mit_semseg import __version__
from mit_semseg.cli import main

SCRIPTS = {"train.py": "train", "eval_multipro.py": "eval", "test.py": "test"}
HEAVY = ("torch", "torchvision", "numpy", "scipy", "cv2", "PIL")


@pytest.fixture
def script(tmp_path):
    """A script in a Python of its own: ``script("train.py", "--cfg", ..., environment=...)`` -> Outcome."""

    def run(name, *words, environment=None):
        done = subprocess.run(
            [sys.executable, str(ROOT / name), *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


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
    assert outcome.err == "TRAIN.seed is -1, but must be an integer >= 0.\n"


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


@pytest.mark.parametrize(("number", "shown"), [(errno.EPIPE, "Broken pipe"), (errno.ENOSPC, "No space left")])
def test_output_that_can_not_be_written_ends_a_command_with_one_line(monkeypatch, capsys, number, shown):
    """``mit-semseg config | head -1``, or a log on a full disk."""

    class Lost(io.StringIO):
        def write(self, text):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sys, "stdout", Lost())
    assert main(["config", "TRAIN.amp"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"Stopped: the output cannot be written ({shown}"), err
    assert err.count("\n") == 1


@pytest.mark.parametrize("lost", ["a closed pipe", "a full disk"])
def test_a_training_continues_when_its_output_is_lost(own_tiny, monkeypatch, capsys, lost):
    """``train.py | head -1``: no traceback of logging, and none when the process ends."""
    if lost == "a closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["train", "--gpus", "cpu", "--cfg", str(own_tiny.config)]) == 0
        err = capsys.readouterr().err
        said = "Continuing without output, which cannot be written (No space left on device).\n"
        assert err == ("" if lost == "a closed pipe" else said)
    assert (own_tiny.folder / "run" / "state.pth").is_file()
    assert "Epoch 2/2" in (own_tiny.folder / "run" / "log.txt").read_text()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_the_caller_has_closed_is_no_reason_to_fail(
    segment, tiny, tmp_path, monkeypatch, stream
):
    """``mit-semseg test ... 2>&-``: Python has None in place of such a stream."""
    monkeypatch.setattr(sys, stream, None)
    assert segment(tiny.folder / "validation" / "0.jpg").code == 0
    assert (tmp_path / "out" / "0.png").is_file()


@pytest.mark.parametrize("command", ["test", "eval"])
def test_weights_to_start_from_are_reported_where_they_have_no_effect(call, tiny, tmp_path, command):
    words = [] if command == "eval" else ["--imgs", "a.jpg"]
    keys = tiny.overrides(DIR=tmp_path / "run", MODEL__weights_encoder="other.pth")
    outcome = call(command, *words, "--cfg", tiny.config, *keys)
    assert "MODEL.weights_encoder has no effect" in outcome.err
    assert f"checkpoint in DIR ({tmp_path / 'run'})" in outcome.err


def test_python_runs_the_package_as_a_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--version"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("mit_semseg", run_name="__main__")
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"mit-semseg {__version__}\n"


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
