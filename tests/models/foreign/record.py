"""Writes recorded.json: names and shapes of small models of other packages, for tests that run without them.

Run it where the packages are installed, see docs/models.md: python tests/models/foreign/record.py
"""

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "recorded.json"
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def shapes(net: Any) -> dict[str, list[int]]:
    return {
        name: list(value.shape)
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def saved_shapes(net: Any, folder: Path) -> dict[str, list[int]]:
    """The names that transformers writes, which are not those that its modules have."""
    from safetensors import safe_open

    net.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    return {name: shape for name, shape in found.items() if not name.endswith("num_batches_tracked")}


def main() -> None:
    import tempfile

    import transformers
    from originals import build_mmseg
    from test_mmsegmentation import MIT, MOBILENET, auxiliary, head, model, resnet

    def huggingface(kind: str, config: Any) -> dict[str, Any]:
        net = getattr(transformers, kind)(config)
        with tempfile.TemporaryDirectory() as folder:
            found = saved_shapes(net, Path(folder))
            values = json.loads(Path(folder, "config.json").read_text())
        return {"config": values, "shapes": found}

    segformer = transformers.SegformerConfig(
        num_labels=5,
        depths=[1, 2, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=12,
        id2label=dict(enumerate(("sky", "road", "car", "tree", "sign"))),
    )
    backbones = {
        "convnext": transformers.ConvNextConfig(
            hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 1, 1], out_features=STAGES
        ),
        "swin": transformers.SwinConfig(
            embed_dim=8, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=3, out_features=STAGES
        ),
    }
    result = {"segformer": huggingface("SegformerForSemanticSegmentation", segformer)}
    for name, backbone in backbones.items():
        config = transformers.UperNetConfig(
            backbone_config=backbone,
            hidden_size=12,
            num_labels=4,
            auxiliary_in_channels=24 if name == "convnext" else 32,
            auxiliary_channels=10,
        )
        result[f"upernet on {name}"] = huggingface("UperNetForSemanticSegmentation", config)
    dilated = {"dilations": (1, 1, 2, 4), "strides": (1, 2, 1, 1), "base_channels": 8, "stem_channels": 16}
    of_mmseg = {
        "mmseg pspnet": model(resnet("v1c", **dilated), head("PSPHead", 64, in_index=3), auxiliary(32)),
        "mmseg deeplabv3+": model(
            MOBILENET,
            head("DepthwiseSeparableASPPHead", 160, in_index=3, c1_in_channels=16, c1_channels=7),
            auxiliary(48),
        ),
        "mmseg segformer": model(MIT, head("SegformerHead", [8, 16, 40, 64], in_index=[0, 1, 2, 3])),
    }
    for name, config in of_mmseg.items():
        result[name] = {"config": config, "shapes": shapes(build_mmseg(config))}
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in result.items()
    ]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    main()
