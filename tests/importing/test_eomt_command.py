"""``mit-semseg import`` of EoMT, from files with the names of its authors, without any other package."""

import json

import pytest
import torch
from forked import run_python
from safetensors.torch import save_file

from mit_semseg import Segmenter
from mit_semseg.models import ModelBuilder

WIDTH, HEADS, CLASSES = 128, 2, 6


def drawn(arch, seed, **options):
    """An encoder of two blocks and a decoder with random weights."""
    encoder = ModelBuilder.build_encoder(
        arch, imagenet=False, options={"depth": 2, "width": WIDTH, "heads": HEADS, "registers": 4, **options}
    )
    decoder = ModelBuilder.build_decoder(
        "eomt",
        channels=encoder.channels,
        num_class=CLASSES,
        use_softmax=True,
        options={"queries": 7, "joint_blocks": 1},
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*encoder.parameters(), *decoder.parameters()]:
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    decoder.set_progress(1)
    return encoder.eval(), decoder.eval()


def of_authors(encoder, decoder):
    """Their names for the weights, for DINOv2."""
    state = {f"network.encoder.backbone.{name}": value for name, value in encoder.state_dict().items()}
    state |= {f"network.{name}": value for name, value in decoder.state_dict().items()}
    state["network.encoder.pixel_mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    return {**state, "criterion.empty_weight": torch.ones(CLASSES + 1)}


def of_transformers(state):
    """The names of transformers' DINOv3 for the weights of an encoder."""
    result = {}
    for name, value in state.items():
        name = name.replace("blocks.", "layer.").replace(".attn.", ".attention.")
        name = name.replace("ls1.gamma", "layer_scale1.lambda1").replace("ls2.gamma", "layer_scale2.lambda1")
        name = name.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")
        name = name.replace("attention.proj", "attention.o_proj").replace("q_bias", "q_proj.bias")
        name = name.replace("v_bias", "v_proj.bias").replace(
            "patch_embed.proj", "embeddings.patch_embeddings"
        )
        if name in ("cls_token", "reg_token"):
            name = f"embeddings.{name.replace('reg_token', 'register_tokens')}"
        if "qkv" not in name:
            result[name] = value.clone()
            continue
        for part, weight in zip("qkv", value.chunk(3), strict=True):
            result[name.replace("qkv", f"{part}_proj")] = weight.clone()
    return result


def write_dinov3(folder, encoder):
    folder.mkdir()
    save_file(of_transformers(encoder.state_dict()), folder / "model.safetensors")
    config = {
        "model_type": "dinov3_vit", "hidden_size": WIDTH, "num_hidden_layers": len(encoder.blocks),
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH, "num_register_tokens": 4, "layer_norm_eps": 1e-5, "rope_theta": 100.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def differences(encoder, decoder, base):
    """What the authors publish for DINOv3: differences of the encoder, and the other weights."""
    state = {}
    theirs = of_transformers(base.state_dict())
    for name, value in of_transformers(encoder.state_dict()).items():
        key = name.replace("layer.", "blocks.", 1).replace("embeddings.", "patch_embed.", 1)
        state[f"network.encoder.backbone.{key}"] = value - theirs[name]
    state |= {f"network.{name}": value for name, value in decoder.state_dict().items()}
    state["network.encoder.pixel_mean"] = torch.zeros(1, 3, 1, 1)
    state["network.attn_mask_probs"] = torch.full((1,), -1.0)
    return state


def saved(folder):
    return [torch.load(folder / f"{part}_epoch_1.pth", weights_only=True) for part in ("encoder", "decoder")]


def test_a_lightning_checkpoint_becomes_a_run(tmp_path):
    encoder, decoder = drawn("dinov2_small", 1, grid=3)
    content = {"state_dict": of_authors(encoder, decoder), "epoch": 30, "pytorch-lightning_version": "2.5.1"}
    torch.save(content, tmp_path / "last.ckpt")
    done = run_python(
        "-m", "mit_semseg", "import", tmp_path / "last.ckpt", "--out", tmp_path / "run", cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert "EoMT of its authors with 6 classes" in done.out
    assert "2 are assumed, of 64 channels each" in " ".join(done.out.split())
    for ours, theirs in zip(saved(tmp_path / "run"), (encoder, decoder), strict=True):
        assert ours.keys() == theirs.state_dict().keys()
        assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())
    segmenter = Segmenter.load(tmp_path / "run", device="cpu")
    assert segmenter.names[0] == "class 1"
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "tile: 48" in text
    assert "loss: mask_classification" in text


def test_differences_and_their_base_become_a_run_by_one_command(call, tmp_path):
    encoder, decoder = drawn("dinov3_small", 2)
    base, _ = drawn("dinov3_small", 3)
    folder = write_dinov3(tmp_path / "dinov3", base)
    torch.save(differences(encoder, decoder, base), tmp_path / "pytorch_model.bin")
    done = call("import", tmp_path / "pytorch_model.bin", "--base", folder, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    ours, heads = saved(tmp_path / "run")
    assert all(torch.allclose(ours[name], value, atol=1e-6) for name, value in encoder.state_dict().items())
    assert heads["attn_mask_probs"].tolist() == [0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "is an EoMT with DINOv3. Its authors publish the differences"),
        (("--base", "other"), "other is not the base of"),
        (("--base", "nothing"), "nothing does not exist"),
        (("--base", "eomt.bin"), "eomt.bin: config.num_hidden_layers"),
    ],
)
def test_a_missing_or_wrong_base_is_refused(words, message, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder, decoder = drawn("dinov3_small", 2)
    base, _ = drawn("dinov3_small", 3)
    other, _ = drawn("dinov3_small", 3, depth=1)
    write_dinov3(tmp_path / "other", other)
    torch.save(differences(encoder, decoder, base), "eomt.bin")
    done = call("import", "eomt.bin", *words, "--out", "run")
    assert done.code == 2
    if words != ("--base", "eomt.bin"):
        assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_dinov2_needs_no_base(call, tmp_path):
    encoder, decoder = drawn("dinov2_small", 1, grid=3)
    base, _ = drawn("dinov3_small", 3)
    torch.save(of_authors(encoder, decoder), tmp_path / "eomt.bin")
    folder = write_dinov3(tmp_path / "dinov3", base)
    done = call("import", tmp_path / "eomt.bin", "--base", folder, "--out", tmp_path / "run")
    assert (done.code, "with DINOv2, which holds all its weights. Omit --base." in done.err) == (2, True)


def test_dinov3_becomes_an_encoder_to_train_from(call, tmp_path):
    base, _ = drawn("dinov3_small", 3)
    folder = write_dinov3(tmp_path / "dinov3", base)
    done = call("import", folder, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "MODEL.arch_encoder dinov3_small MODEL.encoder_options" in done.out
    ours = torch.load(tmp_path / "run" / "encoder.pth", weights_only=True)
    assert all(torch.equal(ours[name], value) for name, value in base.state_dict().items())


def test_dinov2_of_timm_becomes_an_encoder_with_patches_of_16_pixels(call, tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.models.VisionTransformer(
        img_size=56, patch_size=14, embed_dim=128, depth=2, num_heads=2, reg_tokens=4, no_embed_class=True,
        init_values=1e-5, num_classes=0,
    )  # fmt: skip
    save_file(net.state_dict() | {"mask_token": torch.zeros(1, 128)}, tmp_path / "model.safetensors")
    done = call("import", tmp_path / "model.safetensors", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "resized from 14 to 16 pixels" in done.out
    ours = torch.load(tmp_path / "run" / "encoder.pth", weights_only=True)
    assert ours["patch_embed.proj.weight"].shape == (128, 3, 16, 16)
    assert torch.equal(ours["blocks.1.attn.qkv.weight"], net.blocks[1].attn.qkv.weight)
    options = {"depth": 2, "width": 128, "heads": 2, "grid": 4}
    ModelBuilder.build_encoder("dinov2_small", weights=str(tmp_path / "run" / "encoder.pth"), options=options)
