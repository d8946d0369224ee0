"""The model card of a run: README.md with front matter for hubs. It states only what was measured."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..config.keys import KEYS, Key
from ..data.bands import STATISTICS
from ..errors import UserError
from ..models.weights.checkpoint import read
from ..runtime.files import replacing
from .object_sizes import SIDES, object_sizes
from .run import Run, read_run
from .trained import Trained

NAME = "README.md"
LIBRARY = "mit-semseg"

_MARK = "<!-- Written by mit-semseg card, which replaces this file as long as this line is in it. -->"
_RECIPE = ("MODEL", "DATASET", "TRAIN", "INFERENCE")  # sections that a reader may want to repeat
_MACHINE_KEYS = {"TRAIN.workers", "TRAIN.resume", "TRAIN.start_epoch", "TRAIN.trackers", "TRAIN.tensorboard"}
_LEAST_OBJECTS = 10  # of a size, to conclude from
_WEAK = 0.3  # IoU below which a class is named as a weak one


def write_card(
    trained: Trained,
    *,
    name: str = "",
    license_id: str = "",
    datasets: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Write the card into the run's folder and return its path.

    Args:
        name: of the model; by default that of the folder.
        license_id: as hubs write it, such as ``apache-2.0``; "" if it is unknown.
        datasets: their names on the hub.
        force: replace a README.md that was written by hand.

    Raises: UserError if there is one, or if the file cannot be written.
    """
    path = trained.folder / NAME
    if not force and path.exists() and _MARK not in _text_of(path):
        raise UserError(f"{path} was not written by mit-semseg card. Use --force to replace it.")
    text = card(trained, name or trained.folder.resolve().name, license_id, datasets)
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def card(trained: Trained, name: str, license_id: str, datasets: Sequence[str]) -> str:
    """The text of the card, see `write_card`."""
    run = read_run(trained.folder, name)
    parts = [
        f"---\n{_front_matter(trained, run, name, license_id, datasets)}---\n{_MARK}",
        f"# {name}",
        _summary(trained, run),
        _use(trained, run),
        f"## Data\n\n{_data(run)}",
        f"## Recipe\n\n{_recipe(run)}",
        f"## Scores\n\n{_scores(trained)}",
        f"## Limits\n\n{_limits(trained)}",
        f"## License\n\n{license_id or 'Not stated. Ask the authors before you use the weights.'}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(trained: Trained, run: Run, name: str, license_id: str, datasets: Sequence[str]) -> str:
    content: dict[str, Any] = {"license": license_id} if license_id else {}
    content |= {
        "library_name": LIBRARY,
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "pytorch", *_architectures(run)],
    }
    if datasets:
        content["datasets"] = list(datasets)
    content["metrics"] = ["mean_iou", "accuracy"]
    if trained.evaluations:
        metrics = trained.evaluations[0][1]
        values = (("mean_iou", "mean IoU", "mean_iou"), ("accuracy", "pixel accuracy", "pixel_accuracy"))
        data = run.data or "unknown"
        content["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {"name": data, "type": datasets[0] if datasets else _slug(data)},
                        "metrics": [
                            {"type": kind, "name": title, "value": round(metrics[key], 4)}
                            for kind, title, key in values
                            if isinstance(metrics.get(key), float)
                        ],
                    }
                ],
            }
        ]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _architectures(run: Run) -> list[str]:
    names = [str(run.config.get(f"MODEL.arch_{part}", "")) for part in ("encoder", "decoder")]
    return [_slug(name) for name in names if name]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.") or "unknown"


def _summary(trained: Trained, run: Run) -> str:
    parameters = sum(_parameters(file) for file in trained.weights)
    count = run.config.get("DATASET.num_class", "?")
    model = run.model or "A model"
    return (
        f"{model}: assigns one of {count} classes to every pixel of an image. {parameters / 1e6:.2f} million "
        f"parameters and statistics, in `{trained.weights[0].name}` and `{trained.weights[1].name}`."
    )


def _parameters(file: Path) -> int:
    return sum(value.numel() for value in read(file).values() if hasattr(value, "numel"))


def _use(trained: Trained, run: Run) -> str:
    image = "scene.tif" if run.config.get("DATASET.mean") else "photo.jpg"
    return (
        "```python\n"
        "from mit_semseg import Segmenter\n\n"
        "# The folder of this file, such as huggingface_hub.snapshot_download returns it.\n"
        f'segmenter = Segmenter.load("FOLDER", checkpoint="{trained.checkpoint}")\n'
        f'segmenter("{image}").save("classes.png", "overlay", legend=True)\n'
        "```"
    )


def _data(run: Run) -> str:
    lines = ["| | images |", "|---|---|"]
    for what, key in (("training", "list_train"), ("validation", "list_val")):
        file = str(run.config.get(f"DATASET.{key}", ""))
        lines.append(f"| {what} (`{_cell(Path(file).name)}`) | {_lines_of(Path(file))} |")
    return f"Data: {_cell(run.data) or 'unknown'}.\n\n" + "\n".join(lines) + _bands(run)


def _bands(run: Run) -> str:
    """The bands of the images, and the statistics that they are scaled by; "" for 8-bit RGB."""
    keys = {key: list(run.config.get(f"DATASET.{key}") or ()) for key in ("bands", *STATISTICS)}
    mean = keys["mean"]
    if not mean:
        return ""
    rows = [f"\n\nImages have {len(mean)} channels. Values are in the units of the files.\n"]
    rows += [
        "| channel | band of a file | clipped from | to | mean | deviation |",
        "|---|---|---|---|---|---|",
    ]
    numbers = keys["bands"] or range(1, len(mean) + 1)
    columns = zip(numbers, *(keys[key] for key in ("clip_low", "clip_high", "mean", "std")), strict=True)
    for k, (number, *values) in enumerate(columns, 1):
        rows.append(f"| {k} | {number} | " + " | ".join(f"{value:g}" for value in values) + " |")
    return "\n".join(rows)


def _lines_of(file: Path) -> str:
    try:
        with file.open("rb") as lines:
            return f"{sum(1 for line in lines if line.strip()):,}"
    except OSError:
        return "unknown: the list is not on this machine"


def _recipe(run: Run) -> str:
    """The keys that differ from the defaults, without paths, which say nothing on another machine."""
    chosen: dict[str, dict[str, Any]] = {}
    for key in KEYS:
        if key.section in _RECIPE and not key.is_path and key.name not in _MACHINE_KEYS:
            value = run.config.get(key.name, key.default)
            if not _is_default(key, value):
                chosen.setdefault(key.section, {})[key.leaf] = value
    if not run.config:
        return "Unknown: the folder has no config."
    best = run.best
    done = f"{run.epochs:g} epochs of {run.config.get('TRAIN.epoch_iters', '?')} iterations."
    if best is not None:
        done += f" The best validation, after epoch {best.epoch:g}, had a mean IoU of {best.mean_iou:.4f}."
    shown = yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True) if chosen else "# the defaults\n"
    return f"{done} The config keys that differ from the defaults of {LIBRARY}:\n\n```yaml\n{shown}```"


def _is_default(key: Key, value: Any) -> bool:
    default = list(key.default) if isinstance(key.default, tuple) else key.default
    return (list(value) if isinstance(value, tuple) else value) == default


def _scores(trained: Trained) -> str:
    if not trained.evaluations:
        other = (
            f" {trained.others} evaluation(s) in the folder are of other weights." if trained.others else ""
        )
        return (
            f"Not evaluated.{other} `mit-semseg eval --cfg config.yaml VAL.checkpoint {trained.checkpoint}` "
            "does that."
        )
    metrics = trained.evaluations[0][1]
    interval = metrics.get("mean_iou_interval") or {}
    around = ""
    if interval.get("low") is not None:
        around = f" (95 % interval over images: {interval['low']:.4f} to {interval['high']:.4f})"
    data, inference = metrics["config"].get("DATASET", {}), metrics["config"].get("INFERENCE", {})
    how = f"short edges {', '.join(map(str, data.get('imgSizes', [])))}"
    if inference.get("flip"):
        how += ", averaged with mirror images"
    lines = [
        f"On {metrics['images']:,} validation images, at {how}: mean IoU {_score(metrics.get('mean_iou'))}"
        f"{around}, pixel accuracy {_score(metrics.get('pixel_accuracy'))}.",
        "",
        "| class | IoU | accuracy | precision | pixels |",
        "|---|---|---|---|---|",
    ]
    for entry in metrics["classes"]:
        cells = [_score(entry.get(key)) for key in ("iou", "accuracy", "precision")]
        lines.append(
            f"| {_cell(str(entry.get('name')))} | {' | '.join(cells)} | {entry.get('pixels', 0):,} |"
        )
    return "\n".join(lines)


def _limits(trained: Trained) -> str:
    if not trained.evaluations:
        return "Not measured."
    folder, metrics = trained.evaluations[0]
    limits = [
        *_of_classes(metrics),
        _of_objects(folder, metrics),
        _of_sizes(trained),
        _of_calibration(metrics),
    ]
    limits.append("Images unlike the validation images were not tested.")
    return "\n\n".join(limits)


def _of_classes(metrics: dict[str, Any]) -> Iterator[str]:
    known = [entry for entry in metrics["classes"] if entry.get("iou") is not None]
    weak = sorted((entry for entry in known if entry["iou"] < _WEAK), key=lambda entry: entry["iou"])
    absent = [entry for entry in metrics["classes"] if not entry.get("pixels")]
    if weak:
        names = ", ".join(f"{_cell(entry['name'])} ({entry['iou']:.2f})" for entry in weak)
        yield f"**Weak classes** (IoU below {_WEAK}): {names}."
    if absent:
        names = ", ".join(_cell(str(entry["name"])) for entry in absent)
        yield f"**Not tested**, because no validation image has them: {names}."


def _of_objects(folder: Path, metrics: dict[str, Any]) -> str:
    title = "**Size of objects.**"
    pictures = []
    if metrics["config"].get("VAL", {}).get("visualize"):
        pictures = [path for path in sorted(folder.rglob("*.png")) if not path.name.startswith(".")]
    sizes = object_sizes(pictures)
    if not sizes:
        return f"{title} Not measured: that needs an evaluation with `VAL.visualize True`."
    counted = [size for size in sizes if size.objects >= _LEAST_OBJECTS]
    lost = [size for size in counted if size.found < 0.5]
    verdict = f" Most objects below {_upper(lost[-1].low)} are missed." if lost else ""
    rows = [
        f"| {_range(size.low)} | {size.objects:,} | {100 * size.found:.0f} % | {100 * size.recall:.0f} % |"
        for size in sizes
    ]
    return "\n".join(
        [
            f"{title} An object is a connected region of one class in the truth. It counts as found if at "
            f"least half of its pixels get the right class.{verdict}",
            "",
            "| side of a square of its area, pixels | objects | found | mean share of pixels right |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _upper(low: int) -> str:
    place = SIDES.index(low) + 1
    return f"{SIDES[place]} x {SIDES[place]} pixels" if place < len(SIDES) else "any size"


def _range(low: int) -> str:
    place = SIDES.index(low) + 1
    return f"{low} to {SIDES[place]}" if place < len(SIDES) else f"{low} and more"


def _of_sizes(trained: Trained) -> str:
    title = "**Size of images.**"
    rows = []
    for _, metrics in trained.evaluations:
        data, inference = metrics["config"].get("DATASET", {}), metrics["config"].get("INFERENCE", {})
        sizes = ", ".join(map(str, data.get("imgSizes", [])))
        flip = "yes" if inference.get("flip") else "no"
        rows.append(f"| {sizes} | {flip} | {metrics['images']:,} | {_score(metrics.get('mean_iou'))} |")
    if len(set(rows)) < 2:
        return (
            f"{title} Not measured: that needs evaluations at several `DATASET.imgSizes`, each with its own "
            "`VAL.result` in the folder of the run."
        )
    return "\n".join(
        [
            title,
            "",
            "| short edges | mirrored, too | images | mean IoU |",
            "|---|---|---|---|",
            *dict.fromkeys(rows),
        ]
    )


def _of_calibration(metrics: dict[str, Any]) -> str:
    title = "**Calibration.**"
    error, bins = metrics.get("calibration_error"), metrics.get("calibration")
    if error is None or not bins:
        return f"{title} Not measured: that needs an evaluation with `VAL.calibration True`."
    pixels = sum(part["pixels"] for part in bins)
    mean = {
        key: sum(part[key] * part["pixels"] for part in bins if part["pixels"]) / max(pixels, 1)
        for key in ("confidence", "accuracy")
    }
    word = "too sure" if mean["confidence"] > mean["accuracy"] else "not too sure"
    return (
        f"{title} Expected calibration error {error:.4f}. The predicted class has a probability of "
        f"{100 * mean['confidence']:.1f} % on average, and {100 * mean['accuracy']:.1f} % of the pixels are "
        f"right: the model is {word} on average."
    )


def _score(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"  # noqa: RUF001


def _cell(text: str) -> str:
    """Text in a table of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
