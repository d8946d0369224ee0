"""Every encoder with every decoder, exported with random weights and compared with PyTorch in two runtimes.

One encoder of each family goes with every decoder; the others, which repeat the same blocks more often or
with other widths, go with C1. The sizes are not those of `mit-semseg export`, which has already compared
each file when this program does. Rows are printed as they are made. --encoders and --decoders measure fewer.

    python benchmarks/export_pairs.py [--encoders NAME ...] [--decoders NAME ...] [--largest MILLIONS]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from mit_semseg.errors import UserError
from mit_semseg.export import Metadata, Options, openvino_files, write_model
from mit_semseg.export.compare import compare
from mit_semseg.export.graph import ExportGraph
from mit_semseg.export.opened import open_exported
from mit_semseg.inference import ScoringNetwork
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.builder import DECODERS, ENCODERS

FAMILIES = [
    "mobilenetv2dilated",
    "resnet18",
    "resnet18dilated",
    "resnet50dilated",
    "resnet18_v1c",
    "mobilenetv2",
    "hrnet_w18_small",
    "mit_b0",
    "convnext_tiny",
    "swin_tiny",
    "timm/tf_efficientnet_lite0",
    "timm/convnext_atto",
    "timm/vit_small_patch16_dinov3",
]
TIMM = [
    "timm/pvt_v2_b0",
    "timm/regnety_002",
    "timm/swin_tiny_patch4_window7_224",
    "timm/test_maxvit",
    "timm/test_efficientnet",
    "timm/test_vit",
    "timm/resnet18",
]
SHAPES = [(1, 1, 1), (2, 31, 98), (1, 45, 77), (3, 96, 64), (1, 113, 159), (1, 200, 121)]
CLASSES = 7


def network(encoder_name: str, decoder_name: str, seed: int) -> ScoringNetwork:
    """A network of random weights that finds several classes."""
    torch.manual_seed(seed)
    encoder = ModelBuilder.build_encoder(encoder_name, imagenet=False).eval()
    decoder = ModelBuilder.build_decoder(
        decoder_name, channels=encoder.channels, num_class=CLASSES, use_softmax=True, dim=32
    ).eval()
    with torch.no_grad():
        scores = decoder.logits(encoder(torch.randn(2, 3, 64, 96), return_feature_maps=True))
        classifiers = [
            layer
            for layer in decoder.modules()
            if isinstance(layer, nn.Conv2d) and layer.out_channels == CLASSES and layer.bias is not None
        ]
        for classifier in classifiers:  # of a deeply supervised decoder, those of auxiliary heads too
            classifier.bias -= scores.mean((0, 2, 3))
    module = SegmentationModule(encoder, decoder, None).eval()
    return ScoringNetwork.prepared(module, torch.device("cpu"))


def metadata(net: ScoringNetwork, model: str) -> Metadata:
    return Metadata(
        names=tuple(f"class {k}" for k in range(CLASSES)),
        colors=((1, 2, 3),) * CLASSES,
        imgSizes=(300,),
        imgMaxSize=1000,
        padding_constant=8,
        stride=net.stride,
        grid=net.grid,
        outputs=(),
        model=model,
        config="{}",
        weights=("encoder", "decoder"),
        version="1",
    )


def measure(encoder: str, decoder: str, seed: int) -> str:
    """The worst differences of one pair, as cells of a row."""
    net = network(encoder, decoder, seed)
    parts = net.module.encoder, net.module.decoder
    about = metadata(net, f"{encoder} + {decoder}")
    graph = ExportGraph(*parts, CLASSES, scores=False)
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        write_model(*parts, about, onnx, Options(), shapes=SHAPES[:1])
        openvino = converted(onnx, about.with_outputs(graph.outputs))
        for file in onnx, openvino:
            rows = compare(graph, open_exported(file, threads=torch.get_num_threads()), SHAPES)
            wrong, ties = sum(row.wrong for row in rows), sum(row.ties for row in rows)
            pixels = sum(row.pixels for row in rows)
            worst = max(row.difference for row in rows)
            cells.append(f"{wrong} + {ties} of {pixels} | {worst:.0e}")
    return " | ".join(cells)


def converted(onnx: Path, about: Metadata) -> Path:
    """The OpenVINO file that `mit-semseg export` would write, without exporting to ONNX twice."""
    path = onnx.with_suffix(".xml")
    openvino_files.save(openvino_files.converted(onnx), about, path)
    return path


def parameters(encoder: str) -> float:
    with torch.device("meta"):
        return sum(each.numel() for each in ModelBuilder.build_encoder(encoder, imagenet=False).parameters())


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--decoders", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--largest", type=float, default=100.0, metavar="MILLIONS", help="parameters of an encoder"
    )
    args = parser.parse_args()
    pairs = [
        (encoder, decoder) for decoder in args.decoders or DECODERS for encoder in args.encoders or FAMILIES
    ]
    if not (args.encoders or args.decoders):
        pairs += [(encoder, "c1") for encoder in [*ENCODERS, *TIMM] if encoder not in FAMILIES]
    write("| encoder | decoder | onnxruntime: wrong + ties | scores | OpenVINO: wrong + ties | scores | s |")
    write("|---|---|---|---|---|---|---|")
    failed = 0
    for encoder, decoder in pairs:
        if not encoder.startswith("timm/") and parameters(encoder) > args.largest * 1e6:
            write(f"| {encoder} | {decoder} | more than {args.largest:g} million parameters | | | | |")
            continue
        start = time.monotonic()
        try:
            cells = measure(encoder, decoder, args.seed)
        except UserError as error:
            cells = f"failed: {json.dumps(str(error)[:300])} | | |"
        failed += not cells.startswith("0 ") or "| 0 +" not in cells
        write(f"| {encoder} | {decoder} | {cells} | {time.monotonic() - start:.0f} |")
    write(f"\n{len(pairs)} pairs, {failed} of them failed or with a wrong label")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
