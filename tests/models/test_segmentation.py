import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mit_semseg.lib.nn import UserScatteredDataParallel
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.decoders.base import Decoder


class Nothing(nn.Module):
    """An encoder that hands on its input as two maps."""

    def forward(self, x, return_feature_maps=False):
        return [x, 2 * x] if return_feature_maps else [2 * x]


class AsItIs(Decoder):
    """Scores are the first map, auxiliary scores the second."""

    def logits(self, features):
        return features[0]

    def aux_logits(self, features):
        return features[1]


def module(crit=None, deep=False, scale=None, use_softmax=False):
    decoder = AsItIs((2,), num_class=2, use_softmax=use_softmax)
    decoder.deep_supervision = deep
    return SegmentationModule(Nothing(), decoder, crit, deep_sup_scale=scale)


def mean_loss():
    return nn.NLLLoss(ignore_index=-1)


LN3 = math.log(3)
# Three pixels with odds of 3 : 1, 1 : 3 and 3 : 1 for class 0
IMAGE = torch.tensor([[LN3, 0.0, LN3], [0.0, LN3, 0.0]]).reshape(1, 2, 1, 3)


def test_loss_and_accuracy_by_hand():
    label = torch.tensor([0, 0, -1]).reshape(1, 1, 3)
    loss, acc = module(mean_loss())({"img_data": IMAGE, "seg_label": label})
    # -ln(3/4) for the first pixel, -ln(1/4) for the second; the third is ignored
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert acc.item() == 0.5
    assert loss.shape == acc.shape == ()


def test_the_auxiliary_loss_by_hand():
    label = torch.tensor([0, 0, -1]).reshape(1, 1, 3)
    feed = {"img_data": IMAGE, "seg_label": label}
    main = (math.log(4 / 3) + math.log(4)) / 2
    auxiliary = (math.log(10 / 9) + math.log(10)) / 2  # twice the scores: odds of 9 : 1 and 1 : 9
    loss, acc = module(mean_loss(), deep=True, scale=0.4)(feed)
    assert loss.item() == pytest.approx(main + 0.4 * auxiliary)
    assert acc.item() == 0.5
    assert module(mean_loss(), deep=True, scale=None)(feed)[0].item() == pytest.approx(main)
    assert module(mean_loss(), deep=True, scale=0.0)(feed)[0].item() == pytest.approx(main)


def test_the_loss_of_the_training_is_the_sum_over_labelled_pixels():
    label = torch.tensor([0, 0, -1]).reshape(1, 1, 3)
    total, _ = module(pixel_loss_sum())({"img_data": IMAGE, "seg_label": label})
    assert total.item() == pytest.approx(math.log(4 / 3) + math.log(4))


def test_an_image_without_a_label_has_no_loss_no_accuracy_and_no_gradient():
    # It was 0 / 0.
    label = torch.full((1, 1, 3), -1)
    image = IMAGE.clone().requires_grad_()
    loss, acc = module(pixel_loss_sum())({"img_data": image, "seg_label": label})
    loss.backward()
    assert (loss.item(), acc.item()) == (0, 0)
    assert not image.grad.any()


def test_pixel_accuracy_counts_labelled_pixels_only():
    net = module()
    scores = torch.tensor([[3.0, 0, 3, 0], [0, 3, 0, 3]]).reshape(1, 2, 2, 2)  # classes 0 1 0 1
    for label, share in (([0, 1, 0, 1], 1), ([0, 0, 0, -1], 2 / 3), ([1, 0, 1, 0], 0), ([-1] * 4, 0)):
        assert net.pixel_acc(scores, torch.tensor(label).reshape(1, 2, 2)).item() == pytest.approx(share)


def test_a_subclass_may_measure_another_accuracy():
    class Own(SegmentationModule):
        def pixel_acc(self, pred, label):
            return torch.tensor(0.125)

    own = Own(Nothing(), AsItIs((2,), num_class=2), mean_loss())
    label = torch.tensor([0, 0, -1]).reshape(1, 1, 3)
    assert own({"img_data": IMAGE, "seg_label": label})[1].item() == 0.125


@pytest.mark.parametrize("deep", [False, True])
def test_correct_pixels_are_counted_in_place_of_the_accuracy(deep):
    feeds = [
        {"img_data": IMAGE, "seg_label": torch.tensor(label).reshape(1, 1, 3)}
        for label in ([0, 0, -1], [0, 1, 0], [-1, -1, -1])
    ]
    net = module(mean_loss(), deep=deep, scale=0.4)
    assert [net(feed, count_correct=True)[1].item() for feed in feeds] == [1, 3, 0]
    assert torch.equal(net(feeds[0], count_correct=True)[0], net(feeds[0])[0])
    losses, counts = UserScatteredDataParallel(net, ["cpu"] * 3)(feeds, count_correct=True)
    assert (losses.shape, counts.tolist(), counts.dtype) == ((3,), [1, 3, 0], torch.int64)


@pytest.mark.parametrize("size", [(1, 3), (2, 5), (7, 4), torch.Size([3, 3])])
def test_inference_gives_probabilities_of_any_size_without_a_label(size):
    feed = {"img_data": IMAGE, "info": "a.jpg", "img_ori": None}
    result = module(use_softmax=True).eval()(feed, segSize=size)
    assert result.shape == (1, 2, *size)
    torch.testing.assert_close(result.sum(1), torch.ones(1, *size))
    with pytest.raises(TypeError):
        module(use_softmax=True)(feed, size)


def test_a_batch_as_the_collate_function_leaves_it_is_taken():
    feed = {"img_data": IMAGE, "seg_label": torch.zeros(1, 1, 3, dtype=torch.int64)}
    assert torch.equal(module(mean_loss())([feed])[0], module(mean_loss())(feed)[0])


def test_a_module_for_inference_says_that_it_has_no_loss():
    with pytest.raises(ValueError, match=r"^crit is None: .* so pass segSize$"):
        module()({"img_data": IMAGE, "seg_label": torch.zeros(1, 1, 3, dtype=torch.int64)})


def test_the_parts_have_the_names_that_existing_code_reads():
    encoder, decoder, crit = Nothing(), AsItIs((2,), 2), mean_loss()
    net = SegmentationModule(encoder, decoder, crit, 0.4)
    assert (net.encoder, net.decoder, net.crit, net.deep_sup_scale) == (encoder, decoder, crit, 0.4)


def test_a_few_steps_on_one_batch_make_the_loss_fall():
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1_deepsup", channels=encoder.channels, num_class=3)
    net = SegmentationModule(encoder, decoder, mean_loss(), 0.4).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    label = torch.randint(0, 3, (2, 4, 6))
    feed = {"img_data": torch.randn(2, 3, 32, 48), "seg_label": label}
    losses = []
    for _ in range(8):
        loss, _ = net(feed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_scores_are_enlarged_to_the_labels_before_loss_and_accuracy():
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    label = torch.randint(-1, 2, (2, 24, 27), generator=generator)
    net = module(mean_loss(), deep=True, scale=0.4)
    net.at_label_size = True
    loss, acc = net({"img_data": scores, "seg_label": label})
    large = F.interpolate(scores, size=(24, 27), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(large, label, ignore_index=-1)
    expected = expected + 0.4 * F.cross_entropy(2 * large, label, ignore_index=-1)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert acc.item() == pytest.approx((large.argmax(1) == label)[label >= 0].double().mean().item())


def test_scores_and_labels_of_two_sizes_are_an_error_unless_asked_for():
    feed = {"img_data": IMAGE, "seg_label": torch.zeros(1, 4, 12, dtype=torch.int64)}
    with pytest.raises(RuntimeError, match="size"):
        module(mean_loss())(feed)
