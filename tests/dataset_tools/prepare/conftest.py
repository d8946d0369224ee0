"""Small releases, and the command called as its user does."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mit_semseg.data.classes import load_classes
from mit_semseg.dataset_tools.prepare import command


def image(path, size=(6, 4), **options):
    """A picture of (width, height), each with pixels of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.Generator(np.random.Philox(len(path.name))).integers(0, 256, (size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, **options)


def label(path, values, palette=None):
    """An 8-bit label; with a palette, a palette image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(np.asarray(values, np.uint8))
    if palette is not None:
        made.putpalette(palette)  # turns gray into a palette image
    made.save(path)


def colored(path, colors):
    """A label of RGB colours, (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(colors, np.uint8)).save(path)


def full(values, size=(6, 4)):
    """The values, row by row, over and over until the label is full."""
    return np.resize(np.asarray(values), (size[1], size[0]))


@dataclass(frozen=True)
class Out:
    """What a run has written and said."""

    folder: Path
    said: str

    def records(self, split):
        path = self.folder / f"{split}.odgt"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def names(self, split):
        return [Path(record["fpath_img"]).stem for record in self.records(split)]

    def label(self, name):
        """The values of the label of that name in either part."""
        records = self.records("training") + self.records("validation")
        (record,) = (record for record in records if Path(record["fpath_segm"]).stem == name)
        opened = Image.open(self.folder / record["fpath_segm"])
        assert opened.mode == "L"
        assert opened.size == (record["width"], record["height"])
        return np.array(opened)

    @property
    def classes(self):
        path = self.folder / "classes.csv"
        return load_classes(path, len(path.read_text().splitlines()) - 1)


def snapshot(folder):
    """Each file's content (of a link, its target) and time of change."""
    return {
        str(path.relative_to(folder)): (
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def prepare(tmp_path, capsys):
    """``prepare("voc", source, "--ignore", 3)`` -> Out; the source is the same afterwards."""

    def run(kind, source, *words, out=None):
        out = out or tmp_path / "out"
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        before = snapshot(source) if source.is_dir() else source.read_bytes()
        capsys.readouterr()
        try:
            assert command.run(parser.parse_args([kind, str(source), str(out), *map(str, words)])) == 0
        finally:
            assert before == (snapshot(source) if source.is_dir() else source.read_bytes())
        return Out(out, capsys.readouterr().out)

    return run


@pytest.fixture
def make():
    """The functions above, since tests can't import from here."""
    return argparse.Namespace(image=image, label=label, colored=colored, full=full, snapshot=snapshot)
