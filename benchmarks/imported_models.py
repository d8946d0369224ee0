"""Forward passes of imported models beside the originals. (benchmarks/import_time.py measures the import.)

It needs the packages that the models come from, see docs/models.md. The original and the imported model run
in turns, and the processor's time counts, so that other load on the machine affects both alike.

    python benchmarks/imported_models.py [--threads N] [--rounds N] [--side N]
"""

import argparse
import datetime
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/models/foreign"))

from originals import build_mmseg, randomize, save_like_mmengine, save_like_transformers
from test_mmsegmentation import BN, DILATED, auxiliary, head, hrnet, model

from mit_semseg.models.foreign import convert, read_source

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def huggingface() -> dict[str, Any]:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    segformer = transformers.SegformerConfig(num_labels=150)
    convnext = transformers.ConvNextConfig(
        hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 9, 3], out_features=STAGES
    )
    swin = transformers.SwinConfig(out_features=STAGES)
    more = {"num_labels": 150, "auxiliary_in_channels": 384}
    upernet = transformers.UperNetConfig
    return {
        "SegFormer-B0, transformers": transformers.SegformerForSemanticSegmentation(segformer),
        "UPerNet on ConvNeXt-T": transformers.UperNetForSemanticSegmentation(
            upernet(backbone_config=convnext, **more)
        ),
        "UPerNet on Swin-T": transformers.UperNetForSemanticSegmentation(
            upernet(backbone_config=swin, **more)
        ),
    }


def eomt(side: int) -> dict[str, Any]:
    """Two models on small vision transformers, for images of that side, a multiple of 16."""
    import transformers

    small = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "num_labels": 150}
    v2 = transformers.EomtConfig(image_size=side, patch_size=16, **small)
    v3 = transformers.EomtDinov3Config(image_size=side, intermediate_size=1536, **small)
    return {
        "EoMT-S on DINOv2": transformers.EomtForUniversalSegmentation(v2),
        "EoMT-S on DINOv3": transformers.EomtDinov3ForUniversalSegmentation(v3),
    }


def scores_of_pixels(net: Any, x: Tensor) -> Tensor:
    """Of transformers' EoMT: the sum over queries of the probabilities of mask and class."""
    found = net(x)
    masks = F.interpolate(found.masks_queries_logits, x.shape[-2:], mode="bilinear").sigmoid()
    return torch.einsum("bqhw,bqc->bchw", masks, found.class_queries_logits.softmax(-1)[..., :-1])


def mmsegmentation() -> dict[str, dict[str, Any]]:
    r50 = {"type": "ResNetV1c", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3), "norm_cfg": BN}
    d8 = {**r50, **DILATED, "contract_dilation": True}
    wide = {"channels": 512, "num_classes": 150}
    mit = {
        "type": "MixVisionTransformer",
        **{"embed_dims": 32, "num_layers": [2, 2, 2, 2], "num_heads": [1, 2, 5, 8], "mlp_ratio": 4},
    }
    mobilenet = {
        "type": "MobileNetV2",
        **{"strides": (1, 2, 2, 1, 1, 1, 1), "dilations": (1, 1, 1, 2, 2, 4, 4), "norm_cfg": BN},
    }
    concat = {"in_index": (0, 1, 2, 3), "input_transform": "resize_concat", "channels": 270, "num_convs": 1}
    plus = {"in_index": 3, "c1_channels": 48, **wide}

    def aux(channels: int) -> dict[str, Any]:
        return auxiliary(channels) | {"channels": 256, "num_classes": 150}

    return {
        "FCN on R50-D8": model(d8, head("FCNHead", 2048, in_index=3) | wide, aux(1024)),
        "PSPNet on R50-D8": model(d8, head("PSPHead", 2048, in_index=3) | wide, aux(1024)),
        "DeepLabV3 on R50-D8": model(d8, head("ASPPHead", 2048, in_index=3) | wide, aux(1024)),
        "DeepLabV3+ on R50-D8": model(
            d8, head("DepthwiseSeparableASPPHead", 2048, c1_in_channels=256) | plus, aux(1024)
        ),
        "DeepLabV3+ on MobileNetV2": model(
            mobilenet, head("DepthwiseSeparableASPPHead", 320, c1_in_channels=24) | plus, aux(96)
        ),
        "UPerNet on R50": model(
            r50, head("UPerHead", [256, 512, 1024, 2048], in_index=[0, 1, 2, 3]) | wide, aux(1024)
        ),
        "FCN on HRNet-W18": model(
            hrnet(18, 4, (1, 1, 4, 3)),
            head("FCNHead", [18, 36, 72, 144])
            | concat
            | {"kernel_size": 1, "concat_input": False, "num_classes": 150},
        ),
        "SegFormer-B0, mmsegmentation": model(
            mit,
            head("SegformerHead", [32, 64, 160, 256], in_index=[0, 1, 2, 3])
            | {"channels": 256, "num_classes": 150},
        ),
    }


def pairs(side: int) -> Any:
    """The name of each model, and the original and the imported one as functions of an image."""
    for name, net in huggingface().items():
        randomize(net)
        with tempfile.TemporaryDirectory() as folder:
            found = convert(read_source(save_like_transformers(net, Path(folder))))
        yield name, lambda x, net=net: net(x).logits, ours(found)
    for name, net in eomt(side).items():
        randomize(net)
        net.attn_mask_probs.zero_()
        with tempfile.TemporaryDirectory() as folder:
            found = convert(read_source(save_like_transformers(net, Path(folder))))
        yield name, partial(scores_of_pixels, net), ours(found)
    for name, config in mmsegmentation().items():
        net = build_mmseg(config)
        with tempfile.TemporaryDirectory() as folder:
            found = convert(read_source(save_like_mmengine(net, config, Path(folder, "a.pth"))))
        yield name, net._forward, ours(found)


def ours(found: Any) -> Callable[[Tensor], Tensor]:
    encoder, decoder = found.spec().build(use_softmax=True)
    encoder.load_state_dict(found.encoder.weights)
    decoder.load_state_dict(found.decoder.weights)
    encoder.eval()
    decoder.eval()
    upsamples = found.family.startswith("UPerNet")

    def run(x: Tensor) -> Tensor:
        scores = decoder.logits(decoder.features(encoder, x))
        return decoder.resize(scores, x.shape[-2:]) if upsamples else scores

    return run


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@torch.inference_mode()
def compare(rounds: int, side: int) -> None:
    x = torch.randn(1, 3, side, side)
    write("| model | original, ms | imported, ms | imported / original | largest relative difference |")
    write("|---|---|---|---|---|")
    for name, original, imported in pairs(side):
        a, b = original(x), imported(x)
        difference = float((a - b).abs().max() / a.abs().max())
        times = []
        for _ in range(rounds):
            times.append((seconds(partial(original, x)), seconds(partial(imported, x))))
        theirs, own = (1e3 * statistics.median(each) for each in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        write(f"| {name} | {theirs:.0f} | {own:.0f} | {ratio:.2f} | {difference:.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=256, help="side of the image in pixels")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    compare(args.rounds, args.side)
    write(f"\ntorch {torch.__version__}, {args.threads} threads, {datetime.date.today()}")


if __name__ == "__main__":
    main()
