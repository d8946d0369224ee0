"""How well does a recipe do on sequences, sites or patients that it was not trained on?

For each fold of `mit-semseg data split`, it trains on the other groups and scores the fold. With --known, it
also scores the images of that list whose groups the fold was trained on, so that both scores can be compared.
A fold that has scores is not run again, and one that was half trained resumes.

    python benchmarks/leave_one_out.py --list data/camvid/training.odgt --by '([^/]+)_f?[0-9]+[.]' \\
        --out ckpt/unknown_drives --known data/camvid/validation.odgt \\
        --cfg config/camvid-efficientnet_lite0-upernet.yaml TRAIN.num_epoch 10
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

import yaml

from mit_semseg import cli


def run(*words: str | Path) -> None:
    """A command of mit-semseg. Ends this program if it fails."""
    if code := cli.main([str(word) for word in words]):
        sys.exit(code)


def groups_of(lines: list[str], by: re.Pattern[str]) -> list[str]:
    """The group that ``by`` finds in the path of each image, "" if it does not match."""
    matches = [by.search(json.loads(line)["fpath_img"]) for line in lines]
    return ["" if match is None else match[by.groups] for match in matches]


def scored(result: Path, words: list[str | Path]) -> dict[str, float]:
    """The IoU of each class that occurs, and their mean, in percent. Evaluates only once."""
    if not (result / "metrics.json").exists():
        run("eval", *words, "VAL.result", result)
    metrics = json.loads((result / "metrics.json").read_text())
    ious = {each["name"]: 100 * each["iou"] for each in metrics["classes"] if each["pixels"]}
    return {**ious, "mean IoU": statistics.mean(ious.values())}


def fold_scores(fold: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Trains on a fold, and scores it on ``unknown`` groups and, if the list has some, on ``known`` ones."""
    lists = {name: (fold / f"{name}.odgt").read_text().splitlines() for name in ("training", "validation")}
    by = re.compile(args.by)
    title = ", ".join(sorted(set(groups_of(lists["validation"], by))))
    folder = fold / "run"
    words: list[str | Path] = ["--gpus", args.gpus]
    for config in (*args.cfg, fold / "config.yaml"):
        words += ["--cfg", config]
    words += [*args.keys, "DIR", folder]
    if not (folder / "unknown" / "metrics.json").exists():
        run("train", *words, "TRAIN.resume", "auto")
    scores = {f"{title}, unknown": scored(folder / "unknown", words)}
    if args.known:
        lines = Path(args.known).read_text().splitlines()
        trained = set(groups_of(lists["training"], by))
        known = [line for line, group in zip(lines, groups_of(lines, by), strict=True) if group in trained]
        if known:
            (fold / "known.odgt").write_text("\n".join(known) + "\n")
            words += ["DATASET.list_val", fold / "known.odgt"]
            scores[f"{title}, known"] = scored(folder / "known", words)
    return scores


def table(columns: dict[str, dict[str, float]]) -> str:
    """In Markdown, with the mean of the folds for unknown and known groups."""
    for kind in ("unknown", "known"):
        found = [scores for title, scores in columns.items() if title.endswith(f", {kind}")]
        if found:
            names = dict.fromkeys(name for scores in found for name in scores)
            columns[f"mean, {kind}"] = {
                name: statistics.mean(s[name] for s in found if name in s) for name in names
            }
    rows = dict.fromkeys(name for scores in columns.values() for name in scores if name != "mean IoU")
    lines = [f"| class | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in (*rows, "mean IoU"):
        cells = [f"{scores[row]:.1f}" if row in scores else "" for scores in columns.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--list", required=True, action="append", help="an .odgt file; its images are divided"
    )
    parser.add_argument("--by", required=True, help="as for mit-semseg data split")
    parser.add_argument("--folds", help="as for mit-semseg data split")
    parser.add_argument("--out", required=True, type=Path, help="folder for the folds and their runs")
    parser.add_argument("--known", metavar="LIST", help="more images, of groups that folds are trained on")
    parser.add_argument("--gpus", default="cpu", help="as for train.py (default: cpu)")
    parser.add_argument("--cfg", required=True, action="append", help="a recipe, a dataset's config, ...")
    parser.add_argument("keys", nargs="*", metavar="KEY VALUE", help="config keys and values, for all folds")
    args = parser.parse_args(words)
    folds = ["--folds", args.folds] if args.folds else []
    run("data", "split", *args.list, "--by", args.by, "--out", args.out, *folds)
    columns: dict[str, dict[str, float]] = {}
    for fold in sorted(args.out.glob("fold_*"), key=lambda path: int(path.name.removeprefix("fold_"))):
        columns |= fold_scores(fold, args)
    sys.stdout.write(f"\n{table(columns)}\n")
    (args.out / "scores.yaml").write_text(yaml.safe_dump(columns, sort_keys=False))


if __name__ == "__main__":
    main()
