"""From the options to a `Run`: data, validation, model, loss, optimizer, precision and state."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..config.allowed import parse_class_weights
from ..data.class_weights import compute_class_weights
from ..data.classes import load_classes
from ..data.datasets import TrainDataset, ValDataset
from ..evaluation.score_list import batches_of_list
from ..lib.nn import freeze, freeze_batch_norm
from ..losses import Criterion, build_criterion
from ..models import SegmentationModule
from ..models.layer_rates import layer_rates
from ..optim.ema import WeightAverage
from ..optim.optimizers import build_optimizer
from ..runtime.distributed import ProcessInfo, broadcast_module, failing_together
from .checks import check_batch, check_recipe, check_trackers, check_weights
from .counters import TrainState
from .options import ModuleOptions, RunOptions, TrainOptions
from .parallel import parallel
from .resume import Start, initial_state, read_shared_state
from .run import Run
from .saving import Saver
from .shard_files import read_divided_state
from .sharding import is_sharded, shard
from .speed import choose_precision, set_up_speed
from .state import NAME, Stateful, saved_position
from .state_fit import load_state
from .teachers import Teachers, find_teachers
from .validation import Validation

_COLOR_CHANGES = {  # in an augmentation of photos, which images with bands do not get
    "crop": "saturation and hue",
    "photos": "saturation, hue, white balance and JPEG",
}


def check_options(options: TrainOptions, processes: int) -> None:
    """Check the model, the recipe, the batch size, the classes and the lists before any process starts.

    Raises: UserError with the key and the value to set.
    """
    options.module.model.check()
    check_recipe(options)
    if options.layer_decay != 1:
        with torch.device("meta"):
            layer_rates(build_module(options.module).encoder, options.layer_decay)
    check_trackers(options.run.trackers)
    check_batch(options, processes)
    load_classes(options.data.classes, options.data.num_class)
    train_dataset(options)
    build_validation(options)
    find_teachers(options)


def build_run(
    process: ProcessInfo,
    options: TrainOptions,
    start: Start,
    devices: Sequence[torch.device],
    *,
    keeps: bool = False,
) -> Run:
    """Build everything that one process needs to train, with the weights or the state of ``start``.

    Rank 0 reads the weights and sends them to the other processes; the process that has the newest state does
    so with the state.

    Args:
        keeps: whether this process writes the state; rank 0 always does.

    Raises: UserError, in all processes, for weights or a state that does not fit.
    """
    run = options.run
    torch.manual_seed(run.seed)
    with failing_together():
        dataset, validation = train_dataset(options), build_validation(options)
    module = _start_module(process, options, start, dataset)
    optimizer = build_optimizer(
        options.optim,
        module.encoder,
        module.decoder,
        lr=options.lr,
        beta1=options.beta1,
        weight_decay=options.weight_decay,
        encoder_rates=layer_rates(module.encoder, options.layer_decay),
        encoder_delay=options.encoder_delay,
        encoder_warmup=options.encoder_warmup_iters,
    )
    precision = choose_precision(options.speed, module, process.device)
    average = WeightAverage(module, options.ema_decay) if options.ema_decay else None
    extras: dict[str, Stateful] = {"number format": precision}
    if average is not None:
        extras["average of the weights"] = average
    sub_batches = run.accumulate * process.size * len(devices)
    notes = [*start.notes, *_notes_on_bands(dataset, options)]
    if start.state_file is None:
        state = initial_state(start, run, sub_batches)
    else:
        state, more = _load_state(process, start, module, optimizer, extras)
        notes += more
        state.first_sub_batches = state.first_sub_batches or sub_batches
        if average is not None and not average.updates:
            average.begin_as(module)  # start from the loaded weights: the state has no average
    arch_encoder = options.module.model.arch_encoder
    set_up_speed(options.speed, arch_encoder, module, precision, dataset, process, devices)
    if options.teachers:
        with failing_together():
            teachers = find_teachers(options)
            notes += map(str, teachers)
            module.teacher = Teachers(teachers, devices, "bf16" if precision.amp == "bf16" else "none")
    return Run(
        options=run,
        process=process,
        devices=devices,
        dataset=dataset,
        module=module,
        net=parallel(module, process, devices),
        optimizer=optimizer,
        schedule=options.schedule,
        precision=precision,
        average=average,
        extras=extras,
        state=state,
        validation=validation,
        digest=start.digest,
        notes=notes,
        saved=_saved(start, run, state),
        keeps=process.is_first or keeps,
        saver=Saver(),
    )


def _start_module(
    process: ProcessInfo, options: TrainOptions, start: Start, dataset: TrainDataset
) -> SegmentationModule:
    """The module with the weights of the start and its loss, on the device, frozen and sharded as asked."""
    run = options.run
    with failing_together():
        is_new = start.state_file is None and not start.epoch
        if process.is_first and is_new:
            check_weights(run.weights, options.module.model.arch_encoder)
        module = build_module(
            options.module,
            start.weights if process.is_first else ("", ""),
            imagenet=run.pretrained and process.is_first and start.state_file is None,
            # A checkpoint of this run already has the classes that the run is trained for.
            reset_classifier=run.reset_classifier and is_new,
        )
    # After loading the weights, since counting labels can take minutes and a bad file should show at once.
    module.crit = _criterion(options.module, module.decoder, class_weights(options, dataset, process))
    sharded = options.sharded and process.size > 1
    if not sharded:
        module = module.to(process.device)
    module.train()
    broadcast_module(module, process.device)
    freeze_parts(module, options.module)
    module.set_annealing(options.mask_annealing)
    if sharded:
        shard(module, process)
    return module


def _load_state(
    process: ProcessInfo,
    start: Start,
    module: SegmentationModule,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> tuple[TrainState, list[str]]:
    """Load the state of the start into all parts. Returns the counters, and notes for the user."""
    assert start.state_file is not None
    if is_sharded(module):
        content = read_divided_state(start.state_file, module, optimizer, extras)
    else:
        content = read_shared_state(process, start)
    with failing_together():
        return load_state(start.state_file, content, module, optimizer, extras)


def _notes_on_bands(dataset: TrainDataset, options: TrainOptions) -> list[str]:
    """What the augmentation skips, because the images have bands."""
    augment = options.data.augment
    if dataset.bands is None or augment not in _COLOR_CHANGES:
        return []
    return [
        f"DATASET.augment {augment} changes brightness and contrast of all bands alike. It skips "
        f"{_COLOR_CHANGES[augment]}, which only photos have."
    ]


def _saved(start: Start, options: RunOptions, state: TrainState) -> int | None:
    """The iteration of the state in ``DIR``, if it is the one that the run resumes from."""
    if start.state_file is None or saved_position(options.folder / NAME) != (state.iteration, state.epochs):
        return None
    return state.iteration


def train_dataset(options: TrainOptions) -> TrainDataset:
    """The dataset of the training list.

    Each process builds its own, because a user's transform may be a function that can't be pickled.

    Raises: UserError for a list that can't be used.
    """
    return TrainDataset(
        options.data.root_dataset,
        options.run.train_list,
        options.data,
        batch_per_gpu=options.run.batch_size_per_gpu,
        seed=options.run.seed,
    )


def build_validation(options: TrainOptions) -> Validation | None:
    """The validation on ``max_images`` images, which are drawn by the seed; None without validations.

    Raises: UserError for a list or a class table that can't be used.
    """
    run, data, validation = options.run, options.data, options.validation
    if validation is None:
        return None
    dataset = ValDataset(data.root_dataset, run.validation_list, data)
    rows = list(range(len(dataset)))
    if 0 < validation.max_images < len(dataset):
        random = np.random.Generator(np.random.Philox(run.seed))
        rows = sorted(random.choice(len(dataset), validation.max_images, replace=False).tolist())
    return Validation(
        dataset.only(rows),
        load_classes(data.classes, data.num_class),
        batches_of_list(run.validation_list, validation.batch_size, rows),
        validation.settings,
        every=validation.every,
        workers=run.workers,
    )


def build_module(
    options: ModuleOptions,
    weights: tuple[str, str] = ("", ""),
    *,
    imagenet: bool = False,
    reset_classifier: bool = False,
) -> SegmentationModule:
    """The module to train, on the CPU. Its loss weights all classes alike.

    The arguments after ``options`` are those of `ModelSpec.build`.
    """
    encoder, decoder = options.model.build(
        weights, use_softmax=False, imagenet=imagenet, reset_classifier=reset_classifier, adapt=True
    )
    deep_sup_scale = options.deep_sup_scale if decoder.deep_supervision else None
    loss = _criterion(options, decoder)
    return SegmentationModule(encoder, decoder, loss, deep_sup_scale, at_label_size=options.at_label_size)


def _criterion(options: ModuleOptions, decoder: nn.Module, weights: Tensor | None = None) -> Criterion:
    """The loss for a decoder, with the given class weights."""
    queries = getattr(decoder, "queries", 0)
    return build_criterion(
        options.loss, replace(options.loss_options, class_weights=weights, queries=queries)
    )


def class_weights(options: TrainOptions, dataset: TrainDataset, process: ProcessInfo) -> Tensor | None:
    """The class weights, (num_class,) float32 on the CPU; None if all classes weigh alike."""
    wanted = parse_class_weights(options.class_weights)
    if isinstance(wanted, tuple):
        return torch.tensor(wanted)
    if not wanted:
        return None
    workers = options.run.workers
    return compute_class_weights(wanted, dataset, process, options.enet_constant, workers=workers)


def freeze_parts(module: SegmentationModule, options: ModuleOptions) -> None:
    """Freeze the parts that the options name.

    Call it before an optimizer is built, because the optimizer takes only parameters that need gradients.
    """
    if options.freeze_encoder:
        freeze(module.encoder)
    if options.freeze_batch_norm:
        freeze_batch_norm(module)
