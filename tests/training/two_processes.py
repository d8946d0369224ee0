"""Several trainings in one pair of processes, because starting a pair takes longer than training."""

from forked import in_processes

from mit_semseg.config import load_config
from mit_semseg.training import train
from mit_semseg.training.options import train_options


def train_in_two_processes(*commands):
    """Train by each command line in turn: ``train --gpus cpu --cfg FILE KEY VALUE ...``."""
    commands = [[str(word) for word in command] for command in commands]
    assert all(command[:4] == ["train", "--gpus", "cpu", "--cfg"] for command in commands)
    in_processes(2, train_each, commands)


def train_each(process, commands):
    for _, _, _, _, file, *keys in commands:
        train._train(process, train_options(load_config(file, keys)))
