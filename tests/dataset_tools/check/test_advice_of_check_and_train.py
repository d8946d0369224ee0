"""`data check` and training give the same advice on labels, however the files are coded."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.data.datasets import ValDataset
from mit_semseg.data.first_labels import check_first_labels
from mit_semseg.errors import UserError
from mit_semseg.runtime.distributed import ProcessInfo

SIZE = (40, 32)
SETS = [(0, 255), (0, 100), (0, 127, 255), (0, 1, 2, 255), (0, 1, 2), (1, 2, 7), (0,)]
GRAY_RAMP = [value for gray in range(256) for value in (gray, gray, gray)]


class Options:
    imgSizes = (32,)
    imgMaxSize = 64
    padding_constant = 8

    def __init__(self, num_class, label_offset, ignore_label):
        self.num_class, self.label_offset, self.ignore_label = num_class, label_offset, ignore_label


def flat(values, k):
    return np.roll(np.resize(np.repeat(np.array(values, np.uint8), 64), SIZE[::-1]), k, 0)


def antialiased(values, k):
    """A disk of the last value whose edge has mixed values, other ones in each file."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    distance = np.hypot(x - 20 - 0.3 * k, y - 16)
    return np.rint(np.clip(9 - distance, 0, 1) * max(values)).astype(np.uint8)


def alpha(values, varies):
    return np.where(values > 0, 255, 0 if varies else 255).astype(np.uint8)


def palette(indices, entries):
    image = Image.fromarray(indices)
    image.putpalette(entries)
    return image


def dense_palette(values):
    """As tools save few gray levels: the entries are the levels, the values are indices."""
    levels, indices = np.unique(values, return_inverse=True)
    return palette(
        indices.reshape(values.shape).astype(np.uint8), [level for level in levels for _ in range(3)]
    )


CODINGS = {
    "gray": Image.fromarray,
    "16 bits": lambda values: Image.fromarray(values.astype(np.uint16)),
    "gray as RGB": lambda values: Image.fromarray(np.stack([values] * 3, -1)),
    "gray as RGBA": lambda values: Image.fromarray(np.stack([*[values] * 3, alpha(values, False)], -1)),
    "RGBA, alpha varies": lambda values: Image.fromarray(np.stack([*[values] * 3, alpha(values, True)], -1)),
    "gray and alpha": lambda values: Image.fromarray(np.stack([values, alpha(values, False)], -1)),
    "alpha varies": lambda values: Image.fromarray(np.stack([values, alpha(values, True)], -1)),
    "gray palette": lambda values: palette(values, GRAY_RAMP),
    "dense palette": dense_palette,
}


def advice(text):
    """All options and keys that a text recommends."""
    text = re.sub(r"\s+", " ", text)
    return set(
        re.findall(r'--map "[^"]+"|--[a-z-]+ \d[\d,]*|--one-channel|DATASET\.\w+ -?\d+|prepare \w+', text)
    )


@pytest.mark.parametrize("draw", [flat, antialiased])
@pytest.mark.parametrize("coding", CODINGS)
def test_training_gives_no_advice_that_data_check_does_not_give(call, tmp_path, coding, draw):
    for values in SETS:
        lines = []
        for k in range(3):
            Image.new("RGB", SIZE, (k, 9, 9)).save(tmp_path / f"{k}.jpg")
            CODINGS[coding](draw(values, k)).save(tmp_path / f"{k}.png")
            lines.append(
                {"fpath_img": f"{k}.jpg", "fpath_segm": f"{k}.png", "width": SIZE[0], "height": SIZE[1]}
            )
        file = tmp_path / "x.odgt"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for num_class, offset, ignore in ((2, 1, -1), (2, 0, 255)):
            dataset = ValDataset(tmp_path, str(file), Options(num_class, offset, ignore))
            try:
                check_first_labels(dataset, range(3), ProcessInfo(0, 1, torch.device("cpu")))
                for k in range(3):
                    dataset.as_bytes(k)
                refused = ""
            except UserError as error:
                refused = str(error)
            words = ["--num-class", num_class, "--label-offset", offset, "--ignore-label", ignore]
            check = call("data", "check", file, *words, "--workers", 0)
            assert advice(refused) <= advice(check.out), (values, num_class, refused, check.out)
            if refused:
                assert check.code == 1, (values, num_class, refused)
