"""The commands of docs/serving.md, word for word but for the port."""

import argparse
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from commands import ROOT
from PIL import Image
from serving import picture

from mit_semseg.serve import command

TEXT = (ROOT / "docs" / "serving.md").read_text()
LINES = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
CURL = [line for line in LINES if line.startswith("curl ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands(server, tmp_path):
    Image.fromarray(picture(60, 45)).save(tmp_path / "street.jpg")
    assert len(CURL) >= 10
    for line in CURL:
        own = line.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        done = subprocess.run(own, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, line
        assert '"detail"' not in done.stdout, line
        if "v1/segment" in line and "-o " not in line:
            answer = json.loads(done.stdout)
            assert answer["width"] == 60, line
            assert ("rle" in answer["classes"][0]) == ("rle" in line)
    with Image.open(tmp_path / "labels.png") as labels, Image.open(tmp_path / "overlay.png") as overlay:
        assert labels.size == (60, 45)
        assert overlay.height > 45  # with a legend
    assert np.load(io.BytesIO((tmp_path / "scores.npz").read_bytes()))["probabilities"].shape == (3, 45, 60)
    assert "openapi" in json.loads((tmp_path / "openapi.json").read_text())


def test_the_serve_commands_are_ones_that_the_program_takes():
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    commands = [line.partition("#")[0].split() for line in LINES if line.startswith("mit-semseg serve")]
    assert len(commands) == 4
    for words in commands:
        parser.parse_intermixed_args(words[2:])


def test_the_page_names_every_option():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = {name for action in parser._actions for name in action.option_strings} - {
        "-h",
        "--help",
        "--port",
    }
    assert {name for name in options if f"`{name}" not in TEXT and f" {name} " not in TEXT} == set()
