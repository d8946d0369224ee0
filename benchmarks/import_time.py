"""Time and memory of `mit-semseg import` beside those of only reading the same file. Needs transformers.

Usage: python benchmarks/import_time.py [--rounds N] [FOLDER for the files, 3.2 GB]
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READ = """
import sys
from safetensors.torch import load_file
for value in load_file(sys.argv[1]).values():
    value.sum()
"""


def write_model(folder: Path) -> int:
    """Save a UPerNet on ConvNeXt-XL, and return its number of parameters."""
    import torch
    import transformers

    backbone = transformers.ConvNextConfig(
        hidden_sizes=[256, 512, 1024, 2048],
        depths=[3, 3, 27, 3],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.UperNetConfig(backbone_config=backbone, num_labels=150, auxiliary_in_channels=1024)
    with torch.device("meta"):
        net = transformers.UperNetForSemanticSegmentation(config)
    net = net.to_empty(device="cpu")
    for value in net.state_dict().values():
        value.fill_(0.02 if value.is_floating_point() else 0)
    net.save_pretrained(folder, max_shard_size="10GB")
    return sum(value.numel() for value in net.parameters())


def measure(*words: object) -> tuple[float, float, float]:
    """Wall time and processor time in seconds, and peak memory in GB, of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        source, out = Path(name, "source"), Path(name, "out")
        # In a process of its own, because a new process counts the memory of the one that starts it.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            count = pool.apply(write_model, (source,))
        file = source / "model.safetensors"
        rows: dict[str, list[tuple[float, float, float]]] = {"import torch": [], "read": [], "import": []}
        for _ in range(args.rounds):
            shutil.rmtree(out, ignore_errors=True)
            rows["import torch"].append(measure("-c", "import torch"))
            rows["read"].append(measure("-c", READ, file))
            rows["import"].append(measure("-m", "mit_semseg", "import", source, "--out", out))
        lines = [f"{count / 1e6:.0f} million parameters, {file.stat().st_size / 1e9:.2f} GB", ""]
    lines += ["| process | wall, s | processor time, s | peak memory, GB |", "|---|---|---|---|"]
    for what, each in rows.items():
        best = [min(values) for values in zip(*each, strict=True)]
        lines.append(f"| {what} | {best[0]:.1f} | {best[1]:.1f} | {best[2]:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
