"""EoMT gives the same masks and classes here as in transformers, and as its authors' code with timm."""

import json
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from originals import TOLERANCE, build, imported, quiet_transformers, randomize, save_like_transformers
from safetensors.torch import load_file, save_file

from mit_semseg import Segmenter
from mit_semseg.errors import UserError
from mit_semseg.importing.folder import import_model
from mit_semseg.models.foreign import convert, read_source

SMALL = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4, "num_queries": 7}
DINOV2 = {
    "narrow": {"image_size": 80, "num_labels": 5},
    "no registers": {"image_size": 48, "num_labels": 19, "num_register_tokens": 0, "num_blocks": 3},
    "gated": {"image_size": 64, "use_swiglu_ffn": True, "num_labels": 2},
    "small patches": {"image_size": 64, "patch_size": 8, "num_upscale_blocks": 1},
    "wide": {"image_size": 112, "hidden_size": 96, "num_attention_heads": 3, "num_labels": 150},
    "larger": {"image_size": 144, "num_queries": 100},
    "small": {"image_size": 32, "num_blocks": 1, "num_labels": 3},
}  # fmt: skip
DINOV3 = {
    "narrow": {"image_size": 80, "num_labels": 5},
    "key bias": {"image_size": 48, "key_bias": True, "num_labels": 19, "num_register_tokens": 0},
    "wide": {"image_size": 112, "hidden_size": 96, "num_attention_heads": 3, "num_labels": 150},
    "wavelengths": {"image_size": 144, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    "small": {"image_size": 32, "num_blocks": 2, "num_labels": 3},
}


def original(kind, options, seed=0, probabilities=None):
    transformers = quiet_transformers()
    more = {"intermediate_size": 64} if kind == "EomtDinov3" else {}
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **more, **options})
    net = randomize(getattr(transformers, f"{kind}ForUniversalSegmentation")(config), seed)
    blocks = config.num_blocks
    net.attn_mask_probs.copy_(torch.tensor(probabilities or [0.0] * blocks))
    return net


@torch.no_grad()
def difference(model, net, size, monkeypatch):
    """The largest difference of masks, classes and scores of pixels, each as a share of the largest value."""
    attention = F.scaled_dot_product_attention

    def with_mask_of_its_type(query, key, value, attn_mask=None, **more):
        # The original masks in float32, which torch's kernels for float64 misread.
        mask = (
            attn_mask.to(query.dtype)
            if attn_mask is not None and attn_mask.dtype != torch.bool
            else attn_mask
        )
        return attention(query, key, value, attn_mask=mask, **more)

    encoder, decoder = build(model)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", with_mask_of_its_type)
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", with_mask_of_its_type)
        masks, classes = net(x)
    scores = decoder.features(encoder, x)
    inside = F.interpolate(masks, size, mode="bilinear").sigmoid()
    pixels = torch.einsum("bqhw,bqc->bchw", inside, classes.softmax(-1)[..., :-1])
    pairs = [
        (scores.masks[-1], masks),
        (scores.classes[-1], classes),
        (decoder.logits(scores), pixels),
    ]
    assert pixels.std() > 1e-3
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def of_transformers(net):
    net.double()

    def call(x):
        result = net(x)
        return result.masks_queries_logits, result.class_queries_logits

    return call


@pytest.mark.parametrize(
    ("kind", "name"), [("Eomt", name) for name in DINOV2] + [("EomtDinov3", name) for name in DINOV3]
)
def test_the_masks_and_classes_are_those_of_transformers(kind, name, tmp_path, monkeypatch):
    options = (DINOV2 if kind == "Eomt" else DINOV3)[name]
    net = original(kind, options, seed=len(name))
    model = imported(save_like_transformers(net, tmp_path))
    size = options["image_size"]
    assert difference(model, of_transformers(net), (size, size), monkeypatch) <= TOLERANCE
    assert model.num_class == net.config.num_labels
    assert (model.short_edge, model.tile) == (size, size)


@pytest.mark.parametrize("kind", ["Eomt", "EomtDinov3"])
@pytest.mark.parametrize("probabilities", [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
def test_masks_of_the_attention_are_those_of_transformers(kind, probabilities, tmp_path, monkeypatch):
    net = original(kind, {"image_size": 96, "num_labels": 4}, 3, probabilities)
    model = imported(save_like_transformers(net, tmp_path))
    assert difference(model, of_transformers(net), (96, 96), monkeypatch) <= TOLERANCE


def authors_names(net):
    """The weights of a model of transformers under the names of the authors, for DINOv3."""
    renames = (
        ("embeddings.patch_embeddings.", "network.encoder.backbone.patch_embed.patch_embeddings."),
        ("embeddings.", "network.encoder.backbone.patch_embed."),
        ("layers.", "network.encoder.backbone.blocks."),
        ("layernorm.", "network.encoder.backbone.norm."),
        ("query.", "network.q."),
        ("class_predictor.", "network.class_head."),
        ("mask_head.fc1.", "network.mask_head.0."),
        ("mask_head.fc2.", "network.mask_head.2."),
        ("mask_head.fc3.", "network.mask_head.4."),
        ("upscale_block.block.", "network.upscale."),
        ("attn_mask_probs", "network.attn_mask_probs"),
        ("criterion.", "criterion."),
    )
    result = {}
    for name, value in net.state_dict().items():
        old, new = next(pair for pair in renames if name.startswith(pair[0]))
        result[(new + name.removeprefix(old)).replace("layernorm2d", "norm")] = value.clone()
    result["network.encoder.pixel_mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    result["network.encoder.pixel_std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return result


def save_dinov3(folder, options, seed=5):
    """A DINOv3 as Hugging Face saves it, and its weights under the authors' names."""
    transformers = quiet_transformers()
    more = {
        key: value
        for key, value in options.items()
        if key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "key_bias")
    }
    config = transformers.DINOv3ViTConfig(
        **more, intermediate_size=64, num_register_tokens=4, layer_norm_eps=1e-6
    )
    net = randomize(transformers.DINOv3ViTModel(config), seed)
    net.save_pretrained(folder)
    return {
        re.sub(r"^(model\.)?layer\.", "blocks.", name).replace("embeddings.", "patch_embed.", 1): value
        for name, value in load_file(folder / "model.safetensors").items()
    }


@pytest.mark.parametrize(("seed", "options"), [(1, {}), (2, {"hidden_size": 96, "num_attention_heads": 3})])
def test_differences_of_dinov3_are_added_to_their_base(seed, options, tmp_path, monkeypatch):
    net = original("EomtDinov3", {"image_size": 80, "num_labels": 6, **options}, seed)
    base = save_dinov3(tmp_path / "dinov3", {**SMALL, **options}, seed)
    state = authors_names(net)
    start = "network.encoder.backbone."
    for name, value in base.items():
        if name != "patch_embed.mask_token":
            state[start + name] -= value
    torch.save(state, tmp_path / "pytorch_model.bin")
    # Sums of differences round.
    for name in list(state):
        if name.startswith(start):
            state[name] += base[name.removeprefix(start)]
    rounded = {name: value for name, value in state.items() if name.startswith(start)}
    with torch.no_grad():
        for name, value in authors_names(net).items():
            if name in rounded:
                assert torch.allclose(value, rounded[name], atol=1e-5)
        for value, new in zip(net.state_dict().values(), authors_names(net), strict=False):
            if new in rounded:
                value.copy_(rounded[new])
    report = import_model(
        str(tmp_path / "pytorch_model.bin"), tmp_path / "run", base=str(tmp_path / "dinov3")
    )
    assert "EoMT of its authors with 6 classes" in report
    source = read_source(tmp_path / "pytorch_model.bin")
    model = convert(replace(source, base=read_source(tmp_path / "dinov3")))
    assert difference(model, of_transformers(net), (80, 80), monkeypatch) <= TOLERANCE


REFUSED = r"eomt\.ckpt is an EoMT with DINOv3\..*mit-semseg import \S+eomt\.ckpt --base FOLDER --out DIR"


def test_a_file_of_differences_is_refused_without_its_base(tmp_path):
    net = original("EomtDinov3", {"image_size": 80, "num_labels": 6})
    torch.save({"state_dict": authors_names(net)}, tmp_path / "eomt.ckpt")
    with pytest.raises(UserError, match=REFUSED):
        Segmenter.load(tmp_path / "eomt.ckpt")
    with pytest.raises(UserError, match=REFUSED):
        import_model(str(tmp_path / "eomt.ckpt"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_wrong_base_is_named(tmp_path):
    net = original("EomtDinov3", {"image_size": 80, "num_labels": 6})
    torch.save(authors_names(net), tmp_path / "eomt.bin")
    save_dinov3(tmp_path / "dinov3", {**SMALL, "hidden_size": 64})
    with pytest.raises(UserError, match=r"dinov3 is not the base of .*eomt\.bin: .* weights differ"):
        import_model(str(tmp_path / "eomt.bin"), tmp_path / "run", base=str(tmp_path / "dinov3"))


def test_a_whole_checkpoint_of_dinov3_is_read_if_the_user_says_so(tmp_path, monkeypatch):
    net = original("EomtDinov3", {"image_size": 64, "num_labels": 6})
    torch.save({"state_dict": authors_names(net)}, tmp_path / "eomt.ckpt")
    heads = tmp_path / "heads.json"
    heads.write_text(json.dumps({"num_attention_heads": 4, "image_size": 64}))
    model = convert(replace(read_source(tmp_path / "eomt.ckpt", heads), complete=True))
    model.encoder.options["eps"] = 1e-6  # that of this original, not of DINOv3
    assert difference(model, of_transformers(net), (64, 64), monkeypatch) <= TOLERANCE


# The authors' code with timm, from the description in their paper


class WithTimm(torch.nn.Module):
    """The model of the authors: timm's vision transformer, with queries in its last blocks."""

    def __init__(self, size, registers, joint=3, queries=6, classes=5, width=48, heads=3):
        super().__init__()
        timm = pytest.importorskip("timm")
        self.encoder = torch.nn.Module()
        self.encoder.backbone = timm.models.VisionTransformer(
            img_size=size, embed_dim=width, depth=5, num_heads=heads, reg_tokens=registers, num_classes=0,
            no_embed_class=registers > 0, init_values=1e-5,
        )  # fmt: skip
        for name, value in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.encoder.register_buffer(f"pixel_{name}", torch.tensor(value).view(1, 3, 1, 1))
        linear = torch.nn.Linear
        gelu = torch.nn.GELU()
        self.q = torch.nn.Embedding(queries, width)
        self.class_head = linear(width, classes + 1)
        self.mask_head = torch.nn.Sequential(
            linear(width, width), gelu, linear(width, width), gelu, linear(width, width)
        )
        self.upscale = torch.nn.Sequential(*(torch.nn.Module() for _ in range(2)))
        for part in self.upscale:
            part.conv1 = torch.nn.ConvTranspose2d(width, width, 2, 2)
            part.conv2 = torch.nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
            part.norm = torch.nn.LayerNorm(width, eps=1e-6)
        self.register_buffer("attn_mask_probs", torch.zeros(joint))
        self.prefix = queries + 1 + registers

    def forward(self, x):
        vit = self.encoder.backbone
        x = vit._pos_embed(vit.patch_embed(x))
        for i, block in enumerate(vit.blocks):
            if i == len(vit.blocks) - len(self.attn_mask_probs):
                x = torch.cat([self.q.weight.expand(len(x), -1, -1), x], 1)
            x = block(x)
        x = vit.norm(x)
        queries = x[:, : self.q.num_embeddings]
        patches = x[:, self.prefix :].transpose(1, 2).unflatten(2, vit.patch_embed.grid_size)
        for part in self.upscale:
            patches = part.conv2(F.gelu(part.conv1(patches)))
            patches = part.norm(patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return torch.einsum("bqc,bchw->bqhw", self.mask_head(queries), patches), self.class_head(queries)


@pytest.mark.parametrize(("size", "registers"), [(64, 4), (80, 0), (112, 4), (48, 0), (32, 1)])
def test_the_masks_and_classes_are_those_of_the_authors_with_timm(size, registers, tmp_path, monkeypatch):
    net = WithTimm(size, registers)
    mean = net.encoder.pixel_mean.clone()
    randomize(net, size)
    net.encoder.pixel_mean.copy_(mean)
    net.attn_mask_probs.zero_()
    state = {f"network.{name}": value for name, value in net.state_dict().items()}
    state["criterion.empty_weight"] = torch.ones(6)
    torch.save({"state_dict": state, "epoch": 30, "pytorch-lightning_version": "2.5"}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="its width 48 is not a multiple of 64"):
        convert(read_source(tmp_path / "last.ckpt"))
    (tmp_path / "heads.json").write_text('{"num_attention_heads": 3}')
    model = convert(read_source(tmp_path / "last.ckpt", tmp_path / "heads.json"))
    assert difference(model, net.double(), (size, size), monkeypatch) <= TOLERANCE
    assert model.tile == size


def test_a_part_of_the_weights_is_refused(tmp_path):
    net = original("Eomt", {"image_size": 64, "num_labels": 6})
    folder = save_like_transformers(net, tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["layers.2.mlp.fc1.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"1 weight missing \(first: blocks\.2\.mlp\.fc1\.bias\)"):
        imported(folder)
