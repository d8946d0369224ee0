"""The Dockerfile, as far as it can be checked without Docker."""

import argparse
import json
import re
import shlex

import pytest
from commands import ROOT

from mit_semseg.serve import command

TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in re.sub(r"\\\n", " ", TEXT).splitlines() if line and not line.startswith("#")]
KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "WORKDIR"}


def instructions(name):
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{name} ")]


def test_it_consists_of_known_instructions():
    assert {line.split()[0] for line in LINES} <= KNOWN
    assert LINES[0].startswith("FROM ")
    for line in instructions("RUN"):
        shlex.split(line)


def copied():
    words = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    return [source for *sources, _ in words for source in sources]


def test_the_files_that_it_copies_exist_and_reach_the_build():
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    sent = {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert source in sent


def test_it_copies_all_that_the_package_is_built_from():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no parser for TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = project["tool"]["setuptools"]["package-dir"].values()
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    dependencies = project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    assert {"mit_semseg", "pyproject.toml", *folders, *files, dependencies} <= set(copied())


def test_it_does_not_run_as_root_and_takes_an_index_of_torch_wheels():
    last = LINES[max(k for k, line in enumerate(LINES) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last if line.startswith("USER ")]
    assert users
    assert users[-1] not in ("root", "0")
    assert all(line.split()[0].endswith("-slim") for line in instructions("FROM"))
    assert instructions("ARG") == ["PIP_EXTRA_INDEX_URL"]  # which pip reads from the environment
    assert any(line.endswith("torch torchvision") for line in instructions("RUN"))


def test_its_command_is_one_that_the_program_takes():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (entry,), (words,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert json.loads(entry) == ["mit-semseg"]
    name, *arguments = json.loads(words)
    args = parser.parse_args(arguments)
    assert (name, args.host) == ("serve", "0.0.0.0")
    assert instructions("EXPOSE") == [str(args.port)]
