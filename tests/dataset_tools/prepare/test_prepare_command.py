import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mit_semseg.dataset_tools.prepare import command
from mit_semseg.dataset_tools.prepare.formats import FORMATS, reader_of
from mit_semseg.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def parse(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["folders", "source", "out", *words])


def test_each_format_has_a_module_and_each_module_is_listed():
    modules = (ROOT / "mit_semseg/dataset_tools/prepare/formats").glob("[!_]*.py")
    assert sorted(path.stem.replace("_", "-") for path in modules) == sorted(FORMATS)
    assert all(callable(reader_of(name)) for name in FORMATS)


def test_a_map_is_read_however_it_is_spaced():
    expected = {7: 1, 8: 1, 255: 0, None: 2}
    assert command.parse_map("7:1, 8:1, 255:0, *:2") == expected
    assert command.parse_map(" 7 : 1,8:1;255:0 *:2,") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7", "'7' is not a pair such as 7:1"),
        ("7:1, x:2", "not a pair"),
        ("7:1, 7:2", "7 is mapped to 1 and to 2"),
        ("7:256", "a class is at most 255"),
        ("70000:1", "70000 is not a label value"),
        ("", "not a pair"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        command.parse_map(text)


@pytest.mark.parametrize(
    "words", [("--val-share", "1"), ("--ignore", "x"), ("--seed", "-1"), ("--map", "1=2")]
)
def test_options_are_checked_before_anything_is_read(words, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    assert words[0] in capsys.readouterr().err


def test_an_option_of_another_format_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"--background is for the format labelme, coco, .* or class-masks, not for folders"
    ):
        command.run(parse("--background"))
    with pytest.raises(UserError, match="--unknown-colors is for the format rgb or camvid, not for folders"):
        command.run(parse("--unknown-colors", "refuse"))


def test_help_imports_nothing_that_is_slow():
    heavy = "torch", "numpy", "PIL", "tqdm"
    code = (
        "import argparse, sys; from mit_semseg.dataset_tools.prepare import command; "
        "command.add_arguments(argparse.ArgumentParser()); "
        f"sys.exit(' '.join(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""


def test_the_help_can_be_shown(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "cityscapes" in capsys.readouterr().out


RUN = """
import argparse, sys
from mit_semseg.dataset_tools.prepare import command
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    try:
        sys.exit(command.run(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def commands_of_group(group):
    """The command lines of the living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(path.name)) == group:
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return " | ".join(found)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_an_interrupt_ends_all_processes_and_leaves_no_half_file(tmp_path, make):
    source, out = tmp_path / "s", tmp_path / "out"
    for number in range(400):
        make.image(source / "images" / f"{number}.jpg", (300, 200))
        make.label(source / "labels" / f"{number}.png", make.full([1, 2, 3], (300, 200)))
    script = tmp_path / "run.py"
    script.write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, str(script), "folders", str(source), str(out), "--workers", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while not list(out.glob(".prepare.part/labels/*/*.png")) and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "")
    assert "Traceback" not in complaint
    assert not out.exists()
    assert "spawn_main" not in commands_of_group(process.pid)
