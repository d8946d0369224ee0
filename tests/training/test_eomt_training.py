"""EoMT trains by train.py, resumes to the bit, and is evaluated, predicted and exported as any other model."""

import numpy as np
import pytest
import torch

OPTIONS = {
    "MODEL__arch_encoder": "dinov2_small",
    "MODEL__arch_decoder": "eomt",
    "MODEL__encoder_options": "depth: 3, width: 48, heads: 3, patch: 8, grid: 6, registers: 1, layer_scale: 0.5",
    "MODEL__decoder_options": "queries: 8, joint_blocks: 2, upscales: 1",
    "MODEL__fc_dim": 48,
    "DATASET__segm_downsampling_rate": 1,
    "DATASET__imgSizes": 48,
    "TRAIN__loss": "mask_classification",
    "TRAIN__optim": "AdamW",
    "TRAIN__lr_encoder": 0.002,
    "TRAIN__lr_decoder": 0.002,
    "TRAIN__layer_decay": 0.8,
    "TRAIN__tensorboard": False,
    "VAL__every": 9,
}


def test_it_learns_a_few_images_by_heart(call, tiny, tmp_path):
    keys = tiny.overrides(DIR=tmp_path / "run", **OPTIONS, TRAIN__epoch_iters=100, TRAIN__num_epoch=1)
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys)
    assert done.code == 0, done.err
    course = torch.load(tmp_path / "run/history_epoch_1.pth", weights_only=True)["train"]
    print(course)
    assert np.mean(course["acc"][:5]) < 70
    assert np.mean(course["acc"][-10:]) > 85
