"""Config keys that contradict each other."""

import pytest

from mit_semseg.config import get_defaults, load_config
from mit_semseg.config.rules import contradictions
from mit_semseg.errors import UserError


def test_the_defaults_have_no_contradictions():
    assert contradictions(get_defaults()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "DATASET.padding_constant 12",
            "DATASET.padding_constant is 12, which is not a multiple of DATASET.segm_downsampling_rate 8. "
            "Set DATASET.padding_constant 16.",
        ),
        (
            "MODEL.reset_classifier True",
            "MODEL.reset_classifier is True, but MODEL.weights_decoder is empty, so that the whole decoder "
            "is new. Set MODEL.weights_decoder to the checkpoint to start from, or MODEL.reset_classifier "
            "False.",
        ),
        (
            "DATASET.num_class 3 TRAIN.class_weights [1,2]",
            "TRAIN.class_weights has 2 numbers, but DATASET.num_class is 3. Give one for each class, in the "
            "order of the classes.",
        ),
        (
            "TRAIN.warmup_iters 10 TRAIN.num_epoch 2 TRAIN.epoch_iters 5",
            "TRAIN.warmup_iters is 10, but the run has only 10 iterations. Set TRAIN.warmup_iters lower.",
        ),
        (
            "TRAIN.parallel fsdp TRAIN.compile True",
            "TRAIN.compile is True, which needs whole weights, but TRAIN.parallel is fsdp. Set TRAIN.compile "
            "False, or TRAIN.parallel ddp.",
        ),
        (
            "TRAIN.parallel fsdp TRAIN.autotune True",
            "TRAIN.autotune is True, which needs whole weights, but TRAIN.parallel is fsdp. Set "
            "TRAIN.autotune False, or TRAIN.parallel ddp.",
        ),
        (
            "TRAIN.parallel fsdp TRAIN.optim RMSprop",
            "TRAIN.optim is RMSprop, but TRAIN.parallel is fsdp, which takes SGD, Adam, AdamW. Set "
            "TRAIN.optim to one of them, or TRAIN.parallel ddp.",
        ),
        (
            "TRAIN.lr_schedule step",
            "TRAIN.lr_schedule is step, but TRAIN.lr_milestones is empty. Set it to the epochs after which "
            "the learning rate drops.",
        ),
        (
            "TRAIN.lr_schedule step TRAIN.lr_milestones (3,20) TRAIN.num_epoch 20",
            "TRAIN.lr_milestones contains 20, but the run ends at TRAIN.num_epoch 20. Remove it, or set "
            "TRAIN.num_epoch higher.",
        ),
        (
            "TRAIN.lr_milestones (3,)",
            "TRAIN.lr_milestones is (3,), but TRAIN.lr_schedule is poly. Set TRAIN.lr_schedule step, or "
            "remove the milestones.",
        ),
        (
            "TRAIN.lr_min 0.001",
            "TRAIN.lr_min is 0.001, but TRAIN.lr_schedule is poly. Set TRAIN.lr_schedule cosine, or "
            "TRAIN.lr_min 0.",
        ),
        (
            "TRAIN.lr_schedule cosine TRAIN.lr_min 0.03 TRAIN.lr_encoder 0",
            "TRAIN.lr_min is 0.03, but TRAIN.lr_decoder is 0.02. Set TRAIN.lr_min lower.",
        ),
        (
            "TRAIN.start_epoch 20",
            "TRAIN.start_epoch is 20, but the run ends at TRAIN.num_epoch 20. Set TRAIN.num_epoch higher to "
            "continue training.",
        ),
        (
            "TRAIN.resume auto TRAIN.start_epoch 1",
            "TRAIN.resume is 'auto' and TRAIN.start_epoch is 1: both say where to resume. Remove one "
            "of them.",
        ),
        (
            "TRAIN.patience 3",
            "TRAIN.patience is 3, but VAL.every is 0, so that nothing is validated. Set VAL.every 1.",
        ),
        (
            "TRAIN.autotune True TRAIN.amp bf16",
            "TRAIN.autotune chooses the number format, but TRAIN.amp is bf16. Remove one of them.",
        ),
        (
            "TRAIN.autotune True TRAIN.channels_last False",
            "TRAIN.autotune chooses the memory layout, but TRAIN.channels_last is False. Remove one of them.",
        ),
        (
            "TRAIN.autotune True TRAIN.compile True",
            "TRAIN.autotune times the network before TRAIN.compile changes it. Set one of them to False.",
        ),
        (
            "TRAIN.compile True TRAIN.parallel dp",
            "TRAIN.compile needs one process per device, but TRAIN.parallel is dp. Set TRAIN.parallel ddp.",
        ),
        (
            "TRAIN.checkpoint_activations True TRAIN.parallel dp",
            "TRAIN.checkpoint_activations needs one process per device, but TRAIN.parallel is dp. Set "
            "TRAIN.parallel ddp.",
        ),
        (
            "TRAIN.checkpoint_activations True TRAIN.compile True",
            "TRAIN.checkpoint_activations keeps BatchNorm's statistics from being updated twice, which "
            "torch can't compile. Set TRAIN.checkpoint_activations or TRAIN.compile to False.",
        ),
        (
            "TRAIN.checkpoint_activations True TRAIN.freeze encoder",
            "TRAIN.checkpoint_activations is True, but with TRAIN.freeze encoder no activations of the "
            "encoder are kept anyway. Set TRAIN.checkpoint_activations False.",
        ),
        (
            "INFERENCE.tile 512 INFERENCE.overlap 512",
            "INFERENCE.overlap is 512, but INFERENCE.tile is 512. Set INFERENCE.tile above 512, or "
            "INFERENCE.overlap lower.",
        ),
        (
            "INFERENCE.overlap 64",
            "INFERENCE.overlap is 64, but INFERENCE.tile is 0. Set INFERENCE.tile above 64, or "
            "INFERENCE.overlap lower.",
        ),
    ],
)
def test_a_contradiction_is_refused_with_one_sentence(words, message):
    with pytest.raises(UserError) as caught:
        load_config(None, words.split())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "words",
    [
        "DATASET.padding_constant 16",
        "DATASET.num_class 2 TRAIN.class_weights [1,2]",
        "TRAIN.lr_schedule step TRAIN.lr_milestones (3,19.5)",
        "TRAIN.lr_schedule cosine TRAIN.lr_min 0.02",
        "TRAIN.lr_schedule cosine TRAIN.lr_min 0.02 TRAIN.lr_encoder 0",
        "TRAIN.start_epoch 19",
        "TRAIN.patience 3 VAL.every 1",
        "TRAIN.autotune True TRAIN.amp none",
        "TRAIN.checkpoint_activations True TRAIN.freeze bn",
        "INFERENCE.tile 512 INFERENCE.overlap 128",
    ],
)
def test_what_is_close_to_a_contradiction_is_accepted(words):
    load_config(None, words.split())


def test_contradictions_are_reported_together():
    with pytest.raises(UserError) as caught:
        load_config(None, ["TRAIN.patience", "3", "INFERENCE.overlap", "64"])
    assert len(str(caught.value).splitlines()) == 2
