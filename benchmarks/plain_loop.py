"""How fast is train.py beside a plain training loop around another library's model?

The library is segmentation_models.pytorch (``pip install segmentation-models-pytorch``). Both train
EfficientNet-Lite0 + UPerNet with random weights on crops of the same photos and labels, which are made here:
cross-entropy at the resolution of the image, AdamW, one loader process. The plain loop is written as torch's
documentation shows it: ``autocast`` for bf16, NCHW, ``loss.item()`` in every step. Each measurement is a
process of its own, and the ways take turns, so that other load on the machine affects all.

    python benchmarks/plain_loop.py --rounds 4 > benchmarks/results/plain_loop.md

Images a second are means over the iterations after the first four.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZE = 360, 480
CROP = 288, 384
CLASSES = 11
WARM_UP = 4
PHOTOS = 32
ENCODER = "tf_efficientnet_lite0"
write = sys.stdout.write


def make_photos(folder: Path) -> None:
    """Smooth photos, labels of blocks, and their list."""
    import numpy as np
    from PIL import Image

    rng = np.random.Generator(np.random.Philox(0))
    (height, width), lines = SIZE, []
    for number in range(PHOTOS):
        pixels = Image.fromarray(rng.integers(0, 256, (height // 12, width // 12, 3), np.uint8))
        pixels.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
        label = Image.fromarray(rng.integers(0, CLASSES + 1, (height // 24, width // 24), np.uint8))
        label.resize((width, height), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        files = {"fpath_img": f"{number}.jpg", "fpath_segm": f"{number}.png"}
        lines.append(json.dumps({**files, "width": width, "height": height}) + "\n")
    (folder / "training.odgt").write_text("".join(lines))


def rate_of(times: list[float], batch: int) -> float:
    """Images a second, from the times at which iterations ended."""
    return batch * (len(times) - 1 - WARM_UP) / (times[-1] - times[WARM_UP])


def train_own(folder: Path, amp: str, args: argparse.Namespace, more: list[str]) -> float:
    """Images a second of ``train.py``."""
    from mit_semseg import cli
    from mit_semseg.runtime.machine import limit_spinning

    limit_spinning()
    from mit_semseg.training import train

    times, step = [], train.step

    def timed(*words: Any, **named: Any) -> Any:
        result = step(*words, **named)
        times.append(time.perf_counter())
        return result

    train.step = timed
    sys.stdout, stdout = sys.stderr, sys.stdout
    config = {
        "DATASET.root_dataset": folder,
        "DATASET.list_train": folder / "training.odgt",
        "DATASET.crop_size": CROP,
        "MODEL.arch_encoder": f"timm/{ENCODER}",
        "MODEL.weights_encoder": "",
        "MODEL.pretrained": False,
        "MODEL.decoder_dim": args.width,
        "TRAIN.loss": "cross_entropy",
        "TRAIN.class_weights": "",
        "TRAIN.ema_decay": 0.0,
        "TRAIN.batch_size_per_gpu": args.batch,
        "TRAIN.num_epoch": 1,
        "TRAIN.epoch_iters": args.iterations,
        "TRAIN.amp": amp,
        "TRAIN.workers": 1,
        "TRAIN.tensorboard": False,
        "VAL.every": 0,
        "DIR": folder / "own",
    }
    keys = [str(word) for pair in config.items() for word in pair]
    code = cli.main(["train", "--gpus", "cpu", "--cfg", "camvid-efficientnet_lite0-upernet", *keys, *more])
    sys.stdout = stdout
    if code:
        sys.exit(code)
    return rate_of(times, args.batch)


def train_plain(folder: Path, amp: str, args: argparse.Namespace) -> float:
    """Images a second of a plain loop around a model of segmentation_models.pytorch."""
    import numpy as np
    import segmentation_models_pytorch as smp
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Photos(Dataset):
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

        def __len__(self) -> int:
            return args.batch * args.iterations

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            top, left = (
                int(torch.randint(full - part + 1, ())) for full, part in zip(SIZE, CROP, strict=True)
            )
            window = slice(top, top + CROP[0]), slice(left, left + CROP[1])
            image = np.array(Image.open(folder / f"{index % PHOTOS}.jpg"))[window]
            label = np.array(Image.open(folder / f"{index % PHOTOS}.png"))[window]
            pixels = (torch.from_numpy(image) / 255 - self.mean) / self.std
            return pixels.permute(2, 0, 1).contiguous(), torch.from_numpy(label).long() - 1

    torch.manual_seed(0)
    model = smp.UPerNet(f"tu-{ENCODER}", encoder_weights=None, decoder_channels=args.width, classes=CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    times = []
    for images, labels in DataLoader(Photos(), args.batch, num_workers=1):
        with torch.autocast("cpu", torch.bfloat16, enabled=amp == "bf16"):
            scores = model(images)
        loss = F.cross_entropy(scores.float(), labels, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter())
    return rate_of(times, args.batch)


def measure(way: str, args: argparse.Namespace) -> float:
    words = [sys.executable, __file__, *sys.argv[1:], "--measure", way]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--amp", nargs="+", default=["none"], choices=["none", "bf16"], help="number formats")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=128, help="channels of the decoder")
    parser.add_argument("--iterations", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--keys", nargs="*", default=[], help="KEY VALUE pairs for train.py")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, amp = args.measure.split()
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            make_photos(folder)
            own = name == "train.py"
            rate = train_own(folder, amp, args, args.keys) if own else train_plain(folder, amp, args)
        write(f"{rate}\n")
        return
    rates: dict[str, list[float]] = {
        f"{name} {amp}": [] for amp in args.amp for name in ("plain", "train.py")
    }
    for _ in range(args.rounds):
        for way, found in rates.items():
            found.append(measure(way, args))
    import torch

    from mit_semseg.runtime.machine import device_name

    write("# Training beside a plain loop\n\n")
    write(f"{device_name(torch.device('cpu'))}; load average {os.getloadavg()[0]:.1f} at the end; ")
    write(f"torch {torch.__version__}, Python {platform.python_version()}; {datetime.date.today()}; ")
    write(
        f"{args.rounds} rounds. {ENCODER} + UPerNet ({args.width}), {CLASSES} classes, {args.batch} crops of "
    )
    write(f"{CROP[0]} x {CROP[1]}.\n`python benchmarks/plain_loop.py {' '.join(sys.argv[1:])}`\n\n")
    write("| | images/s, mean | least and most | times as fast as plain, median over the rounds |\n")
    write("|---|---|---|---|\n")
    for way, found in rates.items():
        plain = rates[f"plain {way.split()[1]}"]
        ratio = statistics.median(own / other for own, other in zip(found, plain, strict=True))
        write(
            f"| {way} | {statistics.mean(found):.2f} | {min(found):.2f}, {max(found):.2f} | {ratio:.2f} |\n"
        )


if __name__ == "__main__":
    main()
