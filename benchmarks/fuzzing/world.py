"""The folder that each input starts from: a tiny dataset, a trained run, results. All paths are relative."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import yaml
from PIL import Image

from mit_semseg.cli import main

CONFIG = "tiny.yaml"
NUM_CLASS = 3
COLORS = np.array([[0, 0, 0], [200, 60, 40], [60, 180, 60], [40, 80, 200]], np.uint8)
_SIZES = {"training": [(40, 32), (32, 40), (36, 30)], "validation": [(40, 32), (30, 36)]}


def build(folder: Path) -> None:
    """Write the files, then train, evaluate, predict and prepare once, so that complete results exist."""
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.Philox(1))
    with inside(folder):
        for name, sizes in _SIZES.items():
            _write_list(name, [_write_pair(f"{name}/{k}", size, rng) for k, size in enumerate(sizes)])
        Path("classes.csv").write_text(
            "index,name,red,green,blue\n1,brick,200,60,40\n2,lawn,60,180,60\n3,pool,40,80,200\n"
        )
        Path(CONFIG).write_text(yaml.safe_dump(_config()))
        _write_photos(rng)
        _write_sources(rng)
        for words in (
            ["train", "--gpus", "cpu", "--cfg", CONFIG],
            ["eval", "--gpus", "cpu", "--cfg", CONFIG],
            ["test", "--gpu", "cpu", "--cfg", CONFIG, "--imgs", "photos", "TEST.output", "labels,html"],
            ["data", "prepare", "folders", "source", "prepared", "--workers", "0"],
        ):
            if main(words) != 0:
                raise RuntimeError(f"The tiny world could not be built: {words} failed.")
        _write_journal()


def copy(template: Path, folder: Path) -> None:
    """A copy of the built folder, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder, symlinks=True)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Inside the block, ``folder`` is the working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _config() -> dict[str, object]:
    return {
        "DATASET": {
            "root_dataset": ".",
            "list_train": "training.odgt",
            "list_val": "validation.odgt",
            "classes": "classes.csv",
            "num_class": NUM_CLASS,
            "imgSizes": [32],
            "imgMaxSize": 64,
            "padding_constant": 32,
            "segm_downsampling_rate": 32,
        },
        "MODEL": {
            "arch_encoder": "timm/test_efficientnet",
            "arch_decoder": "c1",
            "decoder_dim": 8,
            "pretrained": False,
        },
        "TRAIN": {
            "epoch_iters": 1,
            "num_epoch": 1,
            "workers": 0,
            "disp_iter": 1,
            "lr_encoder": 0.001,
            "lr_decoder": 0.001,
            "tensorboard": False,
        },
        "TEST": {"result": "out"},
        "DIR": "run",
    }


def _blots(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A label of 3 x 4 rectangles, (H, W), and a noisy image of it, (H, W, 3); both uint8."""
    width, height = size
    values = rng.integers(0, NUM_CLASS + 1, (3, 4)).astype(np.uint8)
    label = values[(np.arange(height) * 3 // height)[:, None], (np.arange(width) * 4 // width)[None]]
    noise = rng.integers(-20, 21, (height, width, 3))
    return label, np.clip(COLORS[label] + noise, 0, 255).astype(np.uint8)


def _write_pair(stem: str, size: tuple[int, int], rng: np.random.Generator) -> dict[str, object]:
    label, image = _blots(size, rng)
    Path(stem).parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(f"{stem}.jpg")
    Image.fromarray(label).save(f"{stem}.png")
    return {
        "fpath_img": f"{stem}.jpg",
        "fpath_segm": f"{stem}.png",
        "width": size[0],
        "height": size[1],
    }


def _write_list(name: str, records: list[dict[str, object]]) -> None:
    Path(f"{name}.odgt").write_text("".join(json.dumps(record) + "\n" for record in records))


def _write_photos(rng: np.random.Generator) -> None:
    Path("photos/more").mkdir(parents=True)
    for name in ("photos/a.jpg", "photos/b.png", "photos/more/c.jpg"):
        Image.fromarray(_blots((40, 32), rng)[1]).save(name)
    with av.open("walk.mp4", "w") as video:
        stream = video.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 48, 32
        for _ in range(3):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(_blots((48, 32), rng)[1], format="rgb24")))
        video.mux(stream.encode())


def _write_sources(rng: np.random.Generator) -> None:
    """A dataset as ``data prepare folders`` reads it, one in colours, and one of LabelMe."""
    for folder in ("source/images", "source/labels", "colored/images", "colored/labels", "polygons"):
        Path(folder).mkdir(parents=True)
    for k in range(3):
        label, image = _blots((40, 32), rng)
        Image.fromarray(image).save(f"source/images/{k}.jpg")
        Image.fromarray(label).save(f"source/labels/{k}.png")
        Image.fromarray(image).save(f"colored/images/{k}.jpg")
        Image.fromarray(COLORS[label]).save(f"colored/labels/{k}.png")
        Image.fromarray(image).save(f"polygons/{k}.jpg")
        shape = {"label": "car", "shape_type": "polygon", "points": [[1, 1], [30, 2], [20, 28]]}
        polygons = {"version": "5.0.1", "flags": {}, "shapes": [shape], "imagePath": f"{k}.jpg"}
        polygons |= {"imageData": None, "imageHeight": 32, "imageWidth": 40}
        Path(f"polygons/{k}.json").write_text(json.dumps(polygons))
    Path("colors.csv").write_text("name,red,green,blue\nbrick,200,60,40\nlawn,60,180,60\npool,40,80,200\n")


def _write_journal() -> None:
    """An evaluation that was interrupted after its first image, in the folder ``stopped``."""
    from mit_semseg.evaluation import evaluate as module
    from mit_semseg.evaluation.journal import Journal

    append, done = Journal.append, []

    def once(journal: Journal, *args: object) -> None:
        append(journal, *args)  # type: ignore[arg-type]
        done.append(1)
        raise KeyboardInterrupt

    assert module.Journal is Journal
    Journal.append = once  # type: ignore[method-assign,assignment]
    try:
        main(["eval", "--gpus", "cpu", "--cfg", CONFIG, "VAL.result", "stopped"])
    finally:
        Journal.append = append  # type: ignore[method-assign]
    if not done:
        raise RuntimeError("The interrupted evaluation has recorded nothing.")
