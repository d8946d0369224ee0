"""What this machine does: all-reduce, messages of BatchNorm, training steps, loading."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from mit_semseg.data.datasets import TrainDataset
from mit_semseg.lib.nn.sync import process_exchange
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.optim.optimizers import build_optimizer
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.parallel import ProcessParallel
from mit_semseg.training.step import step

CPU = torch.device("cpu")
SIZES = (2**10, 2**14, 2**18, 2**20, 2**22, 2**24)
ENCODER, DECODER, IMAGES, CLASSES = "mobilenetv2dilated", "c1", (2, 128, 160), 21
MESSAGES = 50


def processes(count: int, steps: int) -> dict[str, Any]:
    """The fastest and the median time of what ``count`` processes do, as the first of them measures it.

    ``step`` is a training step together, ``alone`` one without any exchange in each process at the same time,
    ``message`` one of BatchNorm. ``all_reduce`` has times for each number of bytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_one_process, (count, steps, folder), nprocs=count)
        return torch.load(f"{folder}/times.pt", weights_only=False)


def _one_process(rank: int, count: int, steps: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    process = ProcessInfo(rank, count, CPU)
    result: dict[str, Any] = {"all_reduce": {}, "message": [0.0, 0.0]}
    store = dist.FileStore(f"{folder}/store", count)
    store.add("started", 1)
    while store.add("started", 0) < count:  # so that all compute at the same time
        time.sleep(0.05)
    result["alone"] = _times(_training_step(ProcessInfo(0, 1, CPU)), steps)
    if count > 1:
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
        for size in SIZES:
            numbers = torch.zeros(size // 4)
            result["all_reduce"][size] = _times(lambda numbers=numbers: dist.all_reduce(numbers), steps)
        exchange, row = process_exchange(), torch.ones(1, 513)
        assert exchange is not None
        many = _times(lambda: [exchange.gather(row) for _ in range(MESSAGES)], steps)
        result["message"] = [seconds / MESSAGES for seconds in many]
    result["step"] = _times(_training_step(process), steps) if count > 1 else result["alone"]
    if rank == 0:
        torch.save(result, f"{folder}/times.pt")
    if count > 1:
        dist.destroy_process_group()


def _training_step(process: ProcessInfo) -> Callable[[], object]:
    encoder = ModelBuilder.build_encoder(ENCODER, imagenet=False)
    decoder = ModelBuilder.build_decoder(DECODER, channels=encoder.channels, num_class=CLASSES)
    module = SegmentationModule(encoder, decoder, pixel_loss_sum()).train()
    rates = {"lr": (1e-3, 1e-3), "beta1": 0.9, "weight_decay": 1e-4}
    optimizer = build_optimizer("SGD", encoder, decoder, **rates)
    count, height, width = IMAGES
    stride = encoder.strides[decoder.output_map]
    labels = torch.randint(-1, CLASSES, (count, height // stride, width // stride))
    shard = {"img_data": torch.randn(count, 3, height, width), "seg_label": labels, "info": []}
    net = ProcessParallel(module, CPU) if process.size > 1 else module
    return lambda: step(net, optimizer, [[shard]], process, where="the benchmark")


def _times(run: Callable[[], object], steps: int) -> list[float]:
    """The fastest and the median time; the first two runs warm up."""
    taken = []
    for number in range(steps + 2):
        if dist.is_initialized():
            dist.barrier()
        start = time.perf_counter()
        run()
        if number >= 2:
            taken.append(time.perf_counter() - start)
    return [min(taken), sorted(taken)[len(taken) // 2]]


def images_per_second(size: tuple[int, int], batches: int = 40) -> float:
    """Images that one core decodes, resizes and packs in a second, where it is fastest.

    They are JPEG photos of (height, width) with PNG labels, scaled like those of ADE20K.
    """
    rng = np.random.Generator(np.random.Philox(0))
    height, width = size
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number in range(4):
            small = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
            photo = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
            photo.save(Path(folder, f"{number}.jpg"), quality=90)
            blocks = Image.fromarray(rng.integers(0, 151, (height // 32, width // 32), np.uint8))
            blocks.resize((width, height), Image.Resampling.NEAREST).save(Path(folder, f"{number}.png"))
            files = {"fpath_img": f"{number}.jpg", "fpath_segm": f"{number}.png"}
            records.append({**files, "width": width, "height": height})
        options = SimpleNamespace(
            imgSizes=(300, 375, 450, 525, 600), imgMaxSize=1000, padding_constant=8, segm_downsampling_rate=8
        )
        dataset = TrainDataset(folder, records, options, 2)
        dataset.sub_batch(0)
        taken = []
        for number in range(batches):
            start = time.perf_counter()
            dataset.sub_batch(number % 5)  # images of the same sizes each time
            taken.append(time.perf_counter() - start)
        return 10 / sum(min(taken[first::5]) for first in range(5))
