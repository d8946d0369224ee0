"""SegFormer trains by train.py."""

import numpy as np
import torch


def test_it_learns_a_few_images_by_heart(call, tiny, tmp_path):
    keys = tiny.overrides(
        DIR=tmp_path / "run",
        MODEL__arch_encoder="mit_b0",
        MODEL__arch_decoder="segformer",
        MODEL__encoder_options="depths: [1, 1, 1, 1], widths: [16, 32, 40, 64], heads: [1, 2, 2, 4]",
        MODEL__fc_dim=64,
        MODEL__decoder_dim=32,
        DATASET__segm_downsampling_rate=4,
        DATASET__imgSizes=48,
        TRAIN__optim="AdamW",
        TRAIN__lr_encoder=0.002,
        TRAIN__lr_decoder=0.004,
        TRAIN__epoch_iters=80,
        TRAIN__num_epoch=1,
        TRAIN__tensorboard=False,
        VAL__every=9,
    )
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys)
    assert done.code == 0, done.err
    course = torch.load(tmp_path / "run/history_epoch_1.pth", weights_only=True)["train"]
    assert np.mean(course["acc"][:5]) < 70
    assert np.mean(course["acc"][-10:]) > 85
