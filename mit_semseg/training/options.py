"""The options of a training as plain values. Only this file of the training reads the config's keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..inference.load import model_spec, scoring_settings
from ..inference.predict import Settings
from ..losses import LossOptions
from ..models import ModelSpec
from ..optim.lr_schedule import LRSchedule


class Section(dict[str, Any]):
    """A section of the config whose keys are attributes, too: ``opt["imgSizes"]`` and ``opt.imgSizes``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no key {name}.") from None


@dataclass(frozen=True)
class RunOptions:
    """The options of one run: its files, its start, its length, and what it logs.

    Attributes:
        folder: the folder of the run's files, ``DIR``.
        config: the whole config as YAML text, which is saved with the run.
        title: the title of the curves and of the log.
        train_list: file of the training list.
        validation_list: file of the validation list; "" without validations.
        weights: checkpoints of encoder and decoder that a new run starts from; "" for none.
        pretrained: whether an encoder without a checkpoint starts from ImageNet weights.
        reset_classifier: whether the layers that output class scores start from random weights.

    The other attributes have the names and meanings of keys in the section TRAIN.
    """

    folder: Path
    config: str
    title: str
    train_list: str
    validation_list: str
    weights: tuple[str, str]
    pretrained: bool
    reset_classifier: bool
    resume: str
    start_epoch: int
    num_epoch: int
    epoch_iters: int
    batch_size_per_gpu: int
    accumulate: int
    scale_rate: str
    clip_grad_norm: float
    seed: int
    workers: int
    disp_iter: int
    save_iters: int
    keep_checkpoints: int
    patience: int
    trackers: tuple[str, ...]
    timeout: float

    @property
    def iterations(self) -> int:
        """The number of iterations of the whole run."""
        return self.num_epoch * self.epoch_iters


@dataclass(frozen=True)
class ModuleOptions:
    """The module to train: a model, its loss, and which of its parts are frozen.

    Attributes:
        model: the encoder and the decoder.
        loss: a sum of losses, see `parse_losses`.
        loss_options: the options of these losses, without class weights.
        deep_sup_scale: weight of the loss of auxiliary scores, for decoders with deep supervision.
        at_label_size: whether scores are upsampled to labels of full resolution.
        freeze_encoder: whether the encoder is frozen.
        freeze_batch_norm: whether all BatchNorms are frozen.
    """

    model: ModelSpec
    loss: str
    loss_options: LossOptions
    deep_sup_scale: float
    at_label_size: bool
    freeze_encoder: bool
    freeze_batch_norm: bool

    @property
    def label_stride(self) -> int:
        """The stride of the labels in training: that of the decoder, or 1 if its scores are upsampled."""
        return 1 if self.at_label_size else self.model.label_stride


@dataclass(frozen=True)
class SpeedOptions:
    """The keys of the section TRAIN that change the speed, with their names and meanings."""

    amp: str
    channels_last: str
    autotune: bool
    checkpoint_activations: bool
    compile: bool


@dataclass(frozen=True)
class ValidationOptions:
    """The options of the validations during a run.

    Attributes:
        every: epochs between two validations.
        max_images: how many images of the list are scored; 0 for all.
        batch_size: images that are scored together.
        settings: how an image is scored.
    """

    every: int
    max_images: int
    batch_size: int
    settings: Settings


@dataclass(frozen=True)
class TrainOptions:
    """All options that the processes of a training need, so that they do not read the config.

    Attributes:
        data: the section DATASET, as datasets and augmentations of users take it: ``data.imgSizes`` and
            ``data["imgSizes"]``. Its ``segm_downsampling_rate`` is the stride of the labels in training.
        lr: the initial learning rates of encoder and decoder.
        schedule: the learning rates of all iterations, given the initial ones.
        validation: None without validations.
        sharded: whether several processes divide the model among themselves, ``TRAIN.parallel fsdp``.
        replicated: whether one process uses all devices, ``TRAIN.parallel dp``.

    The other attributes have the names and meanings of keys in the section TRAIN.
    """

    run: RunOptions
    module: ModuleOptions
    speed: SpeedOptions
    data: Section
    class_weights: str
    enet_constant: float
    optim: str
    lr: tuple[float, float]
    beta1: float
    weight_decay: float
    layer_decay: float
    encoder_delay: int
    encoder_warmup_iters: int
    mask_annealing: tuple[float, ...]
    schedule: LRSchedule
    ema_decay: float
    teachers: tuple[str, ...]
    validation: ValidationOptions | None
    sharded: bool
    replicated: bool


def train_options(cfg: CfgNode) -> TrainOptions:
    """The options of a training, from a config. No file is read, and nothing is checked."""
    train, module = cfg.TRAIN, _module_options(cfg)
    return TrainOptions(
        run=_run_options(cfg),
        module=module,
        speed=SpeedOptions(
            amp=train.amp,
            channels_last=train.channels_last,
            autotune=train.autotune,
            checkpoint_activations=train.checkpoint_activations,
            compile=train.compile,
        ),
        data=Section({**cfg.DATASET, "segm_downsampling_rate": module.label_stride}),
        class_weights=train.class_weights,
        enet_constant=train.enet_constant,
        optim=train.optim,
        lr=(train.lr_encoder, train.lr_decoder),
        beta1=train.beta1,
        weight_decay=train.weight_decay,
        layer_decay=train.layer_decay,
        encoder_delay=train.encoder_delay,
        encoder_warmup_iters=train.encoder_warmup_iters,
        mask_annealing=tuple(train.mask_annealing),
        schedule=LRSchedule(
            train.lr_schedule,
            train.num_epoch * train.epoch_iters,
            power=train.lr_pow,
            lowest=train.lr_min,
            milestones=[round(epoch * train.epoch_iters) for epoch in train.lr_milestones],
            step_factor=train.lr_step_factor,
            warmup=train.warmup_iters,
            warmup_factor=train.warmup_factor,
            after_warmup=train.lr_after_warmup,
        ),
        ema_decay=train.ema_decay,
        teachers=tuple(train.teachers),
        validation=_validation_options(cfg) if cfg.VAL.every else None,
        sharded=train.parallel == "fsdp",
        replicated=train.parallel == "dp",
    )


def _run_options(cfg: CfgNode) -> RunOptions:
    train, model = cfg.TRAIN, cfg.MODEL
    return RunOptions(
        folder=Path(cfg.DIR),
        config=cfg.dump(),
        title=f"{model.arch_encoder} + {model.arch_decoder}",
        train_list=cfg.DATASET.list_train,
        validation_list=cfg.DATASET.list_val if cfg.VAL.every else "",
        weights=(model.weights_encoder, model.weights_decoder),
        pretrained=model.pretrained,
        reset_classifier=model.reset_classifier,
        resume=train.resume,
        start_epoch=train.start_epoch,
        num_epoch=train.num_epoch,
        epoch_iters=train.epoch_iters,
        batch_size_per_gpu=train.batch_size_per_gpu,
        accumulate=train.accumulate,
        scale_rate=train.scale_rate,
        clip_grad_norm=train.clip_grad_norm,
        seed=train.seed,
        workers=train.workers,
        disp_iter=train.disp_iter,
        save_iters=train.save_iters,
        keep_checkpoints=train.keep_checkpoints,
        patience=train.patience,
        trackers=tuple(name for name in train.trackers if name != "tensorboard" or train.tensorboard),
        timeout=train.timeout,
    )


def _module_options(cfg: CfgNode) -> ModuleOptions:
    train = cfg.TRAIN
    frozen = train["freeze"]  # train.freeze would be the method of CfgNode
    return ModuleOptions(
        model=model_spec(cfg),
        loss=train.loss,
        loss_options=LossOptions(
            label_smoothing=train.label_smoothing,
            focal_gamma=train.focal_gamma,
            ohem_threshold=train.ohem_threshold,
            ohem_min_kept=train.ohem_min_kept,
        ),
        deep_sup_scale=train.deep_sup_scale,
        at_label_size=train.label_resolution == "full",
        freeze_encoder=frozen == "encoder",
        freeze_batch_norm=frozen == "bn" or train.fix_bn,  # fix_bn is the older name
    )


def _validation_options(cfg: CfgNode) -> ValidationOptions:
    val = cfg.VAL
    return ValidationOptions(val.every, val.max_images, val.batch_size, scoring_settings(cfg))
