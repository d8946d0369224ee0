"""The data-parallel wrappers and the scatter, on CPU devices."""

import copy
from collections import namedtuple

import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import (
    DataParallelWithCallback,
    SynchronizedBatchNorm2d,
    UserScatteredDataParallel,
    async_copy_to,
    patch_replication_callback,
    user_scattered_collate,
)
from mit_semseg.lib.nn.scatter import gather


class Segmenter(nn.Module):
    """Takes a dict; returns the sum of a loss over valid pixels and a share or, with segSize, a map."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), SynchronizedBatchNorm2d(4), nn.ReLU(inplace=True)
        )
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, feed_dict, *, segSize=None):
        scores = self.head(self.body(feed_dict["img_data"]))
        if segSize is not None:
            return nn.functional.interpolate(scores, size=segSize)
        loss = nn.functional.cross_entropy(scores, feed_dict["seg_label"], ignore_index=-1, reduction="sum")
        valid = feed_dict["seg_label"] >= 0
        return loss, (valid & (scores.argmax(1) == feed_dict["seg_label"])).sum() / (valid.sum() + 1e-10)


def feed(batch, height, width, **others):
    label = torch.randint(-1, 5, (batch, height, width))
    return {"img_data": torch.randn(batch, 3, height, width).double(), "seg_label": label, **others}


def batch_of_many_sizes():
    batch = [feed(2, 5, 7, name="a.jpg", info=None), feed(1, 9, 4), feed(3, 3, 3), feed(1, 8, 8)]
    batch[3]["seg_label"].fill_(-1)  # a device without a valid pixel
    return batch


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def test_four_devices_train_on_images_of_four_sizes():
    module = Segmenter().double()
    parallel = UserScatteredDataParallel(module, device_ids=["cpu"] * 4)
    loss, accuracy = parallel(batch_of_many_sizes())
    assert loss.shape == accuracy.shape == (4,)
    loss.mean().backward()
    assert all(grad.isfinite().all() for grad in gradients(module).values())
    assert module.body[1].num_batches_tracked == 1


def test_sums_over_their_global_count_have_the_gradients_of_one_device_with_all_images():
    # Images of one size here, so that one device can take them in one tensor.
    torch.manual_seed(0)
    batch = [feed(n, 6, 5) for n in (2, 1, 3)]
    batch[1]["seg_label"].fill_(-1)
    whole = {key: torch.cat([shard[key] for shard in batch]) for key in batch[0]}
    valid = (whole["seg_label"] >= 0).sum()
    several, one = Segmenter().double(), Segmenter().double()
    one.load_state_dict(several.state_dict())
    for layer in (several.body[1], one.body[1]):
        layer.eps = 1e-30  # far below the variances, so that max(var, eps) and var + eps are the same

    (UserScatteredDataParallel(several, ["cpu"] * 3)(batch)[0].sum() / valid).backward()
    (one(whole)[0] / valid).backward()
    torch.testing.assert_close(gradients(several), gradients(one), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(several.state_dict(), one.state_dict(), rtol=1e-9, atol=1e-12)


def test_one_device_gives_the_modules_own_output():
    module = Segmenter().double()
    (shard,) = batch = [feed(2, 5, 7)]
    parallel = UserScatteredDataParallel(module, device_ids=["cpu"]).eval()
    assert torch.equal(parallel(batch)[0], module(shard)[0])
    assert torch.equal(parallel(shard)[0], module(shard)[0])


def test_segsize_reaches_every_replica():
    parallel = UserScatteredDataParallel(Segmenter().double(), device_ids=["cpu"] * 2).eval()
    with torch.no_grad():
        assert parallel([feed(1, 4, 6), feed(2, 5, 5)], segSize=(10, 12)).shape == (3, 5, 10, 12)


def test_a_short_batch_uses_the_first_devices_and_a_long_one_is_refused():
    parallel = UserScatteredDataParallel(Segmenter().double(), device_ids=["cpu"] * 3)
    assert parallel(batch_of_many_sizes()[:2])[0].shape == (2,)
    assert parallel(batch_of_many_sizes()[:1])[0].shape == (1,)
    with pytest.raises(ValueError, match="The batch has 4 dicts for 3 devices"):
        parallel(batch_of_many_sizes())
    with pytest.raises(ValueError, match="The batch has 0 dicts"):
        parallel([])
    with pytest.raises(TypeError, match="but there are 2 arguments"):
        parallel(*batch_of_many_sizes()[:2])


def test_devices_of_two_types_or_none_are_refused():
    for device_ids in (["cpu", "cuda:1"], []):
        with pytest.raises(ValueError, match="one device, or several of one type"):
            UserScatteredDataParallel(nn.Identity(), device_ids)


def test_a_module_on_another_device_is_named():
    parallel = UserScatteredDataParallel(Segmenter(), device_ids=["cpu"] * 2)
    parallel.module.to("meta")
    with pytest.raises(RuntimeError, match="The module is on meta; move it to the first device, cpu"):
        parallel([feed(1, 4, 4), feed(1, 4, 4)])


def test_gpus_one_and_two_keep_their_numbers():
    parallel = UserScatteredDataParallel(nn.Identity(), device_ids=[1, 2])
    assert [str(device) for device in parallel.devices] == ["cuda:1", "cuda:2"]
    assert parallel.device_ids == [1, 2]


def test_wrappers_unwrap_copy_and_store_like_dataparallel():
    module = Segmenter()
    parallel = UserScatteredDataParallel(module, device_ids=["cpu"] * 2)
    assert isinstance(parallel, nn.DataParallel)
    assert parallel.module is module
    assert all(key.startswith("module.") for key in parallel.state_dict())
    twin = copy.deepcopy(parallel).double()
    assert twin(batch_of_many_sizes()[:2])[0].shape == (2,)


def test_dataparallel_splits_tensors_along_the_batch_and_concatenates_the_outputs():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), SynchronizedBatchNorm2d(4, eps=1e-30)).double()
    twin = copy.deepcopy(net)
    x = torch.randn(5, 3, 4, 4).double()
    y = DataParallelWithCallback(net, device_ids=["cpu"] * 3)(x)
    torch.testing.assert_close(y, twin(x))
    torch.testing.assert_close(net.state_dict(), twin.state_dict())


@pytest.mark.parametrize("variance", [1e-7, 1e-5, 1e-3, 1.0])
def test_several_devices_divide_by_the_larger_of_variance_and_eps_and_one_by_their_sum(variance):
    layer = SynchronizedBatchNorm2d(1, eps=1e-5).double()
    x = torch.tensor([-1.0, 1.0, 1.0, -1.0]).double().view(4, 1, 1, 1) * variance**0.5
    several, one = DataParallelWithCallback(layer, ["cpu"] * 2)(x), layer(x)
    torch.testing.assert_close(several, x / max(variance, 1e-5) ** 0.5, rtol=1e-9, atol=0)
    torch.testing.assert_close(one, x / (variance + 1e-5) ** 0.5, rtol=1e-9, atol=0)
    assert torch.allclose(one, several, rtol=1e-3) == (variance > 1e-2)


def test_dataparallel_refuses_tensors_that_cannot_be_split_equally():
    parallel = DataParallelWithCallback(nn.Bilinear(2, 2, 1), device_ids=["cpu"] * 2)
    with pytest.raises(ValueError, match=r"sizes \[2, 4\] along dimension 0"):
        parallel(torch.zeros(4, 2), torch.zeros(2, 2))


class Noted(nn.Identity):
    """Notes in the shared context and on itself which replica it is."""

    def __data_parallel_replicate__(self, ctx, copy_id):
        ctx.copies = [*getattr(ctx, "copies", []), copy_id]
        self.noted = ctx.copies

    def forward(self, x):
        return x + len(self.noted) * 0


def test_replication_callbacks_share_a_context_per_submodule():
    seen = []
    net = nn.Sequential(Noted(), Noted())
    for layer in net:
        layer.register_forward_hook(lambda module, args, output: seen.append(module.noted))
    DataParallelWithCallback(net, device_ids=["cpu"] * 3)(torch.zeros(3, 2))
    assert sorted(seen) == [[0]] * 2 + [[0, 1]] * 2 + [[0, 1, 2]] * 2


def test_a_plain_dataparallel_is_patched_and_ours_needs_no_patch():
    ours = UserScatteredDataParallel(Segmenter(), device_ids=["cpu"])
    patch_replication_callback(ours)
    plain = nn.DataParallel(Segmenter())
    patch_replication_callback(plain)
    plain.device_ids = ["cpu", "cpu"]
    layers = nn.Sequential(SynchronizedBatchNorm2d(1), Noted())
    replicas = plain.replicate(layers, plain.device_ids)
    outputs = plain.parallel_apply(
        replicas, [(torch.zeros(1, 1, 1, 1),), (torch.ones(1, 1, 1, 1),)], [{}, {}]
    )
    torch.testing.assert_close(torch.cat(outputs).flatten(), torch.tensor([-1.0, 1.0]))
    with pytest.raises(TypeError, match="not Identity"):
        patch_replication_callback(nn.Identity())


Pair = namedtuple("Pair", "first second")


def test_tensors_in_any_nest_are_copied_to_a_device():
    x = torch.ones(2)
    batch = {"img": [x, (x, None)], "name": "a.jpg", "pair": Pair(x, 3), "size": torch.Size([2])}
    for device in ("cpu", torch.device("cpu")):
        copied = async_copy_to(batch, device)
        assert copied["img"][0] is x
        assert copied["img"][1][1] is None
        assert copied["name"] == "a.jpg"
        assert copied["pair"] == Pair(x, 3)
        assert copied["size"] == (2,)
    assert async_copy_to(x, "meta").is_meta


def test_the_collate_function_returns_the_batch_itself():
    batch = [{"a": 1}]
    assert user_scattered_collate(batch) is batch


def test_outputs_are_gathered_by_structure_and_pass_gradients():
    a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    outputs = [{"loss": a, "map": a.expand(1, 2), "none": None, "name": "x"}]
    outputs.append({"loss": b, "map": b.expand(2, 2), "none": None, "name": "y"})
    joined = gather(outputs, torch.device("cpu"))
    assert joined["loss"].tolist() == [1, 2]
    assert joined["map"].tolist() == [[1, 1], [2, 2], [2, 2]]
    assert joined["none"] is None
    assert joined["name"] == ["x", "y"]
    joined["map"].sum().backward()
    assert (a.grad.item(), b.grad.item()) == (2, 4)
