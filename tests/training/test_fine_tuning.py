"""Training that starts from weights: frozen parts, and classifiers for other classes."""

import pytest
import torch

from mit_semseg.models import ModelBuilder

PARTS = ("encoder", "decoder")


@pytest.fixture
def train(call, tiny, trained, tmp_path):
    """``train("run", TRAIN__freeze="bn")`` trains on from the weights of ``trained``; returns its folder."""

    def run(name, **keys):
        keys = {"TRAIN__num_epoch": 1, **keys}
        start = {f"MODEL__weights_{part}": trained / f"{part}_epoch_2.pth" for part in PARTS}
        words = tiny.overrides(**{**start, **keys, "DIR": tmp_path / name})
        outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
        assert outcome.code == 0, outcome.err
        return tmp_path / name

    return run


def weights(folder, part, epoch=1):
    return torch.load(folder / f"{part}_epoch_{epoch}.pth", weights_only=True)


def changed(before, after):
    """The names of the tensors that are not bit for bit the same."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_a_frozen_encoder_stays_bit_for_bit_and_the_decoder_moves(train, trained):
    folder = train("run", TRAIN__freeze="encoder", TRAIN__ema_decay=0.9)
    assert not changed(weights(trained, "encoder", 2), weights(folder, "encoder"))
    start = weights(trained, "decoder", 2)
    assert changed(start, weights(folder, "decoder")) == start.keys()


def test_frozen_norms_stay_bit_for_bit_and_all_else_moves(train, trained):
    folder = train("run", TRAIN__freeze="bn")
    for part in PARTS:
        start = weights(trained, part, 2)
        norms = {name.rpartition(".")[0] for name in start if name.endswith("running_mean")}
        others = {name for name in start if name.rpartition(".")[0] not in norms}
        assert changed(start, weights(folder, part)) == others


def test_fix_bn_is_another_name_for_it(train):
    folders = train("freeze", TRAIN__freeze="bn"), train("fix", TRAIN__fix_bn=True)
    assert all(not changed(weights(folders[0], part), weights(folders[1], part)) for part in PARTS)


# Another number of classes

CHANNELS = (24, 32, 64, 160, 320)


@pytest.fixture
def five_classes(tmp_path):
    """The checkpoint of a decoder c1 for five classes."""
    torch.manual_seed(5)
    file = tmp_path / "decoder_of_five.pth"
    torch.save(ModelBuilder.build_decoder("c1", num_class=5, channels=CHANNELS).state_dict(), file)
    return file


def test_all_but_the_classifier_is_taken(five_classes):
    torch.manual_seed(6)
    net = ModelBuilder.build_decoder(
        "c1", num_class=3, channels=CHANNELS, weights=str(five_classes), reset_classifier=True
    )
    theirs, ours = torch.load(five_classes), net.state_dict()
    same = {name for name in ours if theirs[name].shape == ours[name].shape} - changed(
        {name: value for name, value in theirs.items() if not name.startswith("conv_last")}, ours
    )
    assert ours.keys() - same == {"conv_last.weight", "conv_last.bias"}
    assert 0 < ours["conv_last.weight"].std() < 1


def test_with_the_same_number_of_classes_the_classifier_is_new_too(five_classes):
    net = ModelBuilder.build_decoder(
        "c1", num_class=5, channels=CHANNELS, weights=str(five_classes), reset_classifier=True
    )
    assert changed(torch.load(five_classes), net.state_dict()) == {"conv_last.weight", "conv_last.bias"}


@pytest.mark.parametrize("arch", ["c1_deepsup", "ppm_deepsup", "upernet_tiny"])
def test_every_decoder_names_the_weights_of_its_classifier(tmp_path, arch):
    file = tmp_path / "decoder.pth"
    channels = (4, 8, 12, 16)
    torch.save(ModelBuilder.build_decoder(arch, num_class=7, channels=channels).state_dict(), file)
    net = ModelBuilder.build_decoder(
        arch, num_class=2, channels=channels, weights=str(file), reset_classifier=True
    )
    theirs, ours = torch.load(file), net.state_dict()
    reset = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert all(name.startswith("conv_last") for name in reset)
    assert len(reset) == (4 if net.deep_supervision else 2)
    assert not changed({name: theirs[name] for name in theirs if name not in reset}, ours)


def test_weights_that_do_not_fit_otherwise_are_refused_with_it_too(five_classes):
    from mit_semseg.errors import UserError

    with pytest.raises(
        UserError, match="does not fit decoder 'c1': 0 weights missing, 0 unknown, 1 of another"
    ):
        ModelBuilder.build_decoder(
            "c1",
            num_class=3,
            channels=(24, 32, 64, 160, 321),
            weights=str(five_classes),
            reset_classifier=True,
        )


def test_a_run_accepts_weights_for_another_number_of_classes_only_with_reset_classifier(
    train, call, tiny, five_classes
):
    words = tiny.overrides(MODEL__weights_decoder=five_classes, TRAIN__num_epoch=1)
    refused = call("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", five_classes.parent / "no", *words)
    assert refused.code == 2
    assert "It was trained with 5 classes, this model has 3." in refused.err
    assert "or MODEL.reset_classifier True to keep the rest and train a new classifier." in refused.err
    keys = {"MODEL__weights_decoder": five_classes, "MODEL__reset_classifier": True}
    folder = train("run", TRAIN__lr_decoder=0, TRAIN__freeze="bn", **keys)
    assert changed(torch.load(five_classes), weights(folder, "decoder")) == {
        "conv_last.weight",
        "conv_last.bias",
    }


def test_a_resumed_run_keeps_its_classifier(train, five_classes):
    keys = {"MODEL__weights_decoder": five_classes, "MODEL__reset_classifier": True, "TRAIN__freeze": "bn"}
    folder = train("run", **keys)
    train("run", TRAIN__start_epoch=1, TRAIN__num_epoch=2, TRAIN__lr_decoder=0, **keys)
    assert not changed(weights(folder, "decoder", 1), weights(folder, "decoder", 2))
