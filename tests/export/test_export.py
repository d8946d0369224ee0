"""Writing of exported files: one graph for all sizes, the labels of PyTorch, and what is refused."""

import json
import warnings

import numpy as np
import pytest
import torch
from example_metadata import example_metadata
from forked import run_python
from torch import nn

from mit_semseg.errors import UserError
from mit_semseg.export import Options, write_model
from mit_semseg.export import write as write_module
from mit_semseg.export.compare import Row, as_table, compare, shapes_for
from mit_semseg.export.graph import ExportGraph
from mit_semseg.export.opened import open_exported, read_metadata
from mit_semseg.inference import ScoringNetwork
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.encoders.swin import Swin
from mit_semseg.models.layers import AdaptiveAvgPool2d, AvgPool2d, conv_bn_relu, requested_maps
from mit_semseg.runtime.claim import claimed

pytest.importorskip("onnxscript")

SHAPES = [(1, 1, 1), (2, 45, 77), (3, 31, 130)]


class Encoder(nn.Module):
    """Four maps of few channels."""

    channels = (4, 6, 8, 8)
    strides = (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        steps = zip((3, *self.channels), self.channels, (5, 3, 3, 3), (4, 2, 2, 2), strict=False)
        self.layers = nn.ModuleList(conv_bn_relu(*step) for step in steps)

    def forward(self, x, return_feature_maps=False):
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return requested_maps(maps, return_feature_maps)


def small_swin():
    return Swin(depths=(2, 1, 1, 1), width=8, heads=(1, 1, 2, 2))


def network(decoder, num_class=5, encoder=Encoder):
    """A network of random weights that finds several classes; ``encoder``: a name, or what builds one."""
    torch.manual_seed(0)
    net = (encoder() if callable(encoder) else ModelBuilder.build_encoder(encoder, imagenet=False)).eval()
    head = ModelBuilder.build_decoder(
        decoder, channels=net.channels, num_class=num_class, use_softmax=True, dim=8
    ).eval()
    classifier = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)][-1]
    with torch.no_grad():
        scores = head.logits(net(torch.randn(2, 3, 64, 64), return_feature_maps=True))
        classifier.bias -= scores.mean((0, 2, 3))
    return ScoringNetwork.prepared(SegmentationModule(net, head, None).eval(), torch.device("cpu"))


def metadata(net, num_class=5):
    return example_metadata(num_class, stride=net.stride, grid=net.grid)


def write(net, path, options=None, num_class=5, **keys):
    parts = net.module.encoder, net.module.decoder
    return write_model(*parts, metadata(net, num_class), path, options or Options(), shapes=SHAPES, **keys)


# Pooling and padding


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 12), (60, 81)])
def test_the_pooling_of_a_graph_has_the_values_of_torch_at_sizes_that_it_was_not_traced_at(cells, size):
    pool = AdaptiveAvgPool2d(cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated
        traced = torch.jit.trace(pool, torch.randn(2, 3, 9, 13))
    assert "adaptive" not in str(traced.inlined_graph)
    x = torch.randn(3, 4, *size)
    torch.testing.assert_close(traced(x), nn.AdaptiveAvgPool2d(cells)(x), rtol=1e-5, atol=1e-6)


def test_outside_of_a_graph_the_pooling_is_that_of_torch():
    x = torch.randn(2, 3, 10, 7)
    assert torch.equal(AdaptiveAvgPool2d(3)(x), nn.AdaptiveAvgPool2d(3)(x))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (8, 7)])
def test_the_means_of_squares_in_a_graph_are_those_of_torch_where_the_edge_cuts_squares_off(size):
    layer = AvgPool2d(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decisions that are the same for all sizes
        traced = torch.jit.trace(layer, torch.randn(1, 2, 6, 9))
    x = torch.randn(2, 2, *size)
    wanted = torch.nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)(x)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=0)
    torch.testing.assert_close(traced(x), wanted)


def test_convolutions_with_the_padding_of_tensorflow_have_graphs_for_every_size():
    timm = pytest.importorskip("timm")
    from mit_semseg.models.encoders.timm_encoder import _synchronized

    def chain():
        torch.manual_seed(0)
        return nn.Sequential(*(timm.layers.Conv2dSame(3, 3, size, stride=2) for size in (3, 5, 1, 3)))

    free = torch.export.Dim.DYNAMIC
    sides = ({2: free, 3: free},)
    with write_module._no_least_size():
        graph = torch.export.export(
            _synchronized(chain()), (torch.randn(1, 3, 75, 107),), dynamic_shapes=sides
        )
    for size in ((1, 1), (2, 5), (16, 33), (40, 131)):
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(graph.module(check_guards=False)(x), chain()(x))


class Scoring(nn.Module):
    """The scoring path of a SegmentationModule, at the size of the image."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module({"img_data": x}, segSize=x.shape[-2:])


@torch.no_grad()
def test_torch_traces_and_exports_the_scoring_path_for_every_size():
    module = Scoring(network("ppm").module).eval()
    example, other = torch.randn(2, 3, 75, 107), torch.randn(1, 3, 40, 129)
    free = torch.export.Dim.DYNAMIC
    exported = torch.export.export(module, (example,), dynamic_shapes=({0: free, 2: free, 3: free},))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decisions that are the same for all sizes
        traced = torch.jit.trace(module, example)
    for graph in (torch.fx.symbolic_trace(module), exported.module(check_guards=False), traced):
        torch.testing.assert_close(graph(other), module(other), rtol=1e-3, atol=1e-4)


# Files


@pytest.mark.parametrize(
    ("encoder", "decoder", "extension", "num_class", "opset"),
    [
        (Encoder, "upernet_tiny", ".xml", 256, 20),
        (small_swin, "c1", ".pt2", 2, 18),  # torch.export derives least sides from it
        ("timm/test_vit", "c1", ".xml", 3, 18),  # learned positions are resized with an antialiased filter
    ],
)
def test_a_file_has_the_labels_of_pytorch_at_other_sizes(
    encoder, decoder, extension, num_class, opset, tmp_path
):
    if extension == ".xml":
        pytest.importorskip("openvino")
    net = network(decoder, num_class, encoder)
    path = tmp_path / f"model{extension}"
    threshold = 0.45
    rows = write(net, path, Options("", "scores", opset), num_class, threshold=threshold)
    assert [(row.shape, row.wrong) for row in rows] == [(shape, 0) for shape in SHAPES]
    assert read_metadata(path).outputs == ("labels", "logits", "scores")
    assert not list(tmp_path.glob(".*"))
    image = np.random.Generator(np.random.Philox(3)).integers(0, 256, (2, 3, 50, 34), np.uint8)
    labels, scores = open_exported(path).run(["labels", "scores"], image)
    assert labels.dtype == (np.uint8 if num_class <= 255 else np.int32)
    assert scores.shape == (2, num_class, 50, 34)
    wanted = scores[:, 1] >= threshold if num_class == 2 else scores.argmax(1)
    assert np.mean(labels == wanted) > 0.999
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize(("num_class", "dtype"), [(255, torch.uint8), (256, torch.int32), (300, torch.int32)])
def test_labels_of_more_than_255_classes_are_int32(num_class, dtype):
    module = network("c1", num_class).module
    graph = ExportGraph(module.encoder, module.decoder, num_class, scores=False)
    assert graph(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))[0].dtype == dtype


def test_the_comparison_of_a_command_has_odd_even_and_small_sizes_and_batches():
    shapes = shapes_for(32)
    assert len(shapes) >= 8
    assert {count for count, *_ in shapes} == {1, 3}
    assert {side % 2 for _, *sides in shapes for side in sides} == {0, 1}
    assert (1, 1, 1) in shapes


def test_the_metadata_hold_what_other_programs_need(exported):
    onnx = pytest.importorskip("onnx")
    assert onnx.load(str(exported)).opset_import[0].version == 18
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(exported))
    texts = session.get_modelmeta().custom_metadata_map
    values = {key: json.loads(text) for key, text in texts.items()}
    assert values["model_type"] == "Segmentor"
    assert values["class_names"] == {"0": "brick", "1": "lawn", "2": "pool"}
    assert values["colors"] == [[200, 60, 40], [60, 180, 60], [40, 80, 200]]
    assert (values["imgSizes"], values["imgMaxSize"], values["padding_constant"]) == ([32, 40], 64, 8)
    assert values["tiles_size"] == values["tile_size"] == 64
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1]) == ("image", "tensor(uint8)", 3)
    assert [output.name for output in session.get_outputs()] == ["labels", "logits"]


# What is refused


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    bad = Row((1, 2, 2), 4, ties=0, wrong=1, difference=0.5)
    monkeypatch.setattr(write_module, "compare", lambda *_: [bad])
    with pytest.raises(UserError, match="differ from those of PyTorch") as caught:
        write(network("c1"), tmp_path / "m.pt2")
    assert as_table([bad]) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_has_left_is_hidden_and_deleted_by_the_next(tmp_path):
    left = tmp_path / ".m.pt2.part" / "sub"
    left.mkdir(parents=True)
    (left.parent / "m.pt2").write_bytes(b"half")
    (left / "weights").write_bytes(b"half")
    write(network("c1"), tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == [tmp_path / "m.pt2"]


def test_a_file_that_another_process_is_writing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mit_semseg.runtime.claim._PATIENCE_S", 0)
    with (
        claimed(tmp_path / ".m.pt2.part", "written", "--out"),
        pytest.raises(UserError, match=r"m\.pt2\.part is being written by process"),
    ):
        write(network("c1"), tmp_path / "m.pt2")


def test_a_network_that_cannot_be_exported_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(write_module, "_TESTED_TORCH", (99, 0))

    class Branches(Encoder):
        def forward(self, x, return_feature_maps=False):
            return super().forward(x if x.sum() > 0 else -x, return_feature_maps)

    net = network("c1")
    net.module.encoder = Branches().eval()
    with pytest.raises(
        UserError, match=r"m\.pt2 was not written: a \+ b can't be exported to torch: "
    ) as caught:
        write(net, tmp_path / "m.pt2")
    assert "exports were tested with 2.14: try a newer one" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file_that_cannot_hold_all_weights_is_refused(tmp_path, monkeypatch):
    def write_two(graph, metadata, path, opset):
        path.touch()
        path.with_name(f"{path.name}.data").touch()

    monkeypatch.setitem(write_module.FORMATS, "onnx", (".onnx", write_two))
    with pytest.raises(UserError, match="a \\+ b is larger than 2 GB"):
        write(network("c1"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from mit_semseg.export import write
program = torch.export.export(torch.nn.Linear(100, 100), (torch.zeros(1, 100),))
write._program = lambda graph: program
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # bytes of a file
try:
    write._write_torch(None, SimpleNamespace(as_texts=dict), Path(sys.argv[1]), 18)
except OSError as error:
    print(error.strerror)
"""


def test_a_full_disk_does_not_end_the_process(tmp_path):
    """torch's own writing to a file throws where nothing can catch it."""
    outcome = run_python("-c", ON_A_FULL_DISK, tmp_path / "m.pt2")
    assert (outcome.code, outcome.out) == (0, "File too large\n"), outcome.err


def test_outputs_of_another_size_are_wrong_everywhere():
    net = network("c1")
    graph = ExportGraph(net.module.encoder, net.module.decoder, 5, scores=False)

    class Empty:
        def run(self, names, image):
            return [np.zeros((0, *[0] * (1 if name == "labels" else 3)), np.float32) for name in names]

    (row,) = compare(graph, Empty(), [(1, 5, 7)])
    assert (row.wrong, row.pixels, row.agrees) == (35, 35, False)


def test_the_comparison_finds_another_network():
    class Other:
        def run(self, names, image):
            with torch.no_grad():
                return [each.numpy() for each in other(torch.from_numpy(image))]

    net = network("c1")
    graph = ExportGraph(net.module.encoder, net.module.decoder, 5, scores=False)
    other = ExportGraph(net.module.encoder, net.module.decoder, 5, scores=False)
    assert all(row.agrees for row in compare(graph, Other(), SHAPES))
    other.scale *= 2
    assert not any(row.agrees for row in compare(graph, Other(), SHAPES))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--opset", "17"], "--opset is 17, but must be from 18"),
        (
            ["--out", "{folder}/m.pt2", "--opset", "20"],
            "--opset is 20, but a .pt2 file has no operators of ONNX",
        ),
        (["--out", "{folder}/m.txt"], "has the extension '.txt'"),
        (["--out", "{folder}/there.onnx"], "there.onnx exists. Pass --force"),
        (["--out", "{folder}/there.onnx/m.onnx"], "can't be written into"),
        (["DIR", "{folder}/empty"], "holds no checkpoint"),
        (["--out", "{folder}/m.onnx", "--format", "torch"], "has the extension '.onnx'"),
    ],
)
def test_a_mistake_on_the_command_line_has_one_message(call, model, tmp_path, words, message):
    there = tmp_path / "there.onnx"
    there.write_bytes(b"mine")
    words = [word.format(folder=tmp_path) for word in words]
    options = [] if "--out" in words else ["--out", tmp_path / "new.onnx"]
    outcome = call("export", "--cfg", model / "config.yaml", *options, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert there.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [there]
