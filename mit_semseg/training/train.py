"""Training: a loop over a deterministic sequence of sub-batches, in one process for each device."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from ..data.datasets import TrainDataset
from ..data.loader import Skipped, loading, raise_errors
from ..errors import DivergenceError, UserError
from ..models.weights.checkpoint import epoch_path
from ..optim.lr_schedule import set_rates
from ..runtime.claim import claimed
from ..runtime.distributed import ProcessInfo, gather_from_processes
from ..runtime.launch import count_processes, is_first_process, run_processes, started_by_torchrun
from ..runtime.log import capturing_log, get_logger, setup_logger
from ..runtime.machines import claimed_on_machines
from ..runtime.stopping import Interrupted, StopAgreement, stop_requests
from .checkpoints import drop_old_epochs
from .counters import TrainState
from .dry_run import dry_run
from .loggers import Loggers, logging_to
from .options import RunOptions, TrainOptions, train_options
from .progress import Progress
from .resume import agree_on_start
from .run import Run
from .saving import saving
from .setup import build_run, check_options
from .sharding import naming_use_of_shares
from .state import NAME
from .step import on_device, step
from .validation import Validation, weights_to_score

_FIRST_ITERATIONS = 100  # at least one of them must have a labelled pixel

Batches = Iterator[list[list[dict[str, Any]]]]


def train(cfg: CfgNode, devices: Sequence[torch.device]) -> None:
    """Train the model of ``cfg`` on ``devices``, and write a checkpoint to ``cfg.DIR`` after every epoch.

    Raises:
        SystemExit: with 128 + the number of a SIGTERM or SIGINT that stopped the training, after its state
            was saved.
        UserError: for a config, a list or a file that can't be used.
        ProcessError: when one of several processes fails.
        DivergenceError: when the loss or its gradient is not finite; the weights were not updated with it.
    """
    options = train_options(cfg)
    check_options(options, count_processes(devices))
    if options.replicated and started_by_torchrun():
        raise UserError(
            "TRAIN.parallel is dp, which uses one process, but torchrun starts several. Set it to ddp."
        )
    with claimed(options.run.folder, "trained", "DIR", enabled=is_first_process()):
        if options.replicated:
            run_processes(_train, devices[:1], options, devices, timeout_s=options.run.timeout)
        else:
            run_processes(_train, devices, options, timeout_s=options.run.timeout)


def _train(
    process: ProcessInfo, options: TrainOptions, devices: Sequence[torch.device] | None = None
) -> None:
    """Train in one process: on its own device, or on ``devices`` if they are given."""
    with claimed_on_machines(options.run.folder, "trained", "DIR", process) as keeps:
        if options.sharded:
            _require_shared_folder(options.run.folder, process, keeps=keeps)
        _train_from_start(process, options, devices or [process.device], keeps=keeps)


def _require_shared_folder(folder: Path, process: ProcessInfo, *, keeps: bool) -> None:
    """Refuse machines with disks of their own: each would have a part of the state. Raises: UserError."""
    hosts = [host for host, own in gather_from_processes((socket.gethostname(), keeps)) if own]
    if len(hosts) > 1:
        raise UserError(
            f"TRAIN.parallel is fsdp, but DIR {folder} is not the same folder on {hosts[0]} and {hosts[1]}. "
            "Set DIR to a folder on a disk that all machines share, or TRAIN.parallel ddp."
        )


def _train_from_start(
    process: ProcessInfo, options: TrainOptions, devices: Sequence[torch.device], *, keeps: bool
) -> None:
    """Train from where the run starts.

    Args:
        keeps: whether this process writes weights and state.
    """
    log = setup_logger(process.rank)
    start = agree_on_start(process, options.run)
    if start.finished:
        for note in start.notes:
            log.info(note)
        return
    with capturing_log() as headline:
        run = build_run(process, options, start, devices, keeps=keeps)
        for line in [run.describe(), *run.describe_rates(), *run.notes]:
            log.info(line)
    _try_out(run)
    with (
        logging_to(run.options, run.state, headline, enabled=process.is_first) as loggers,
        stop_requests() as request,
        batches(run.options, run.dataset, process, len(run.devices), run.state) as data,
        _advising(run),
        saving(run.saver),
    ):
        if options.run.resume == "auto" and run.state.iteration and run.saved is None:
            run.save()  # this machine has no state yet, or an older one
        stop_for = _train_epochs(run, data, StopAgreement(request, run.options.timeout), loggers)
    if stop_for:
        raise SystemExit(128 + stop_for)


def _train_epochs(run: Run, data: Batches, stop: StopAgreement, loggers: Loggers | None) -> int:
    """Train to the end of the run, or until a signal asks to stop. Returns the signal's number, or 0."""
    options, state, log, stop_for = run.options, run.state, get_logger(), 0
    while not stop_for and not state.has_ended(options.num_epoch, options.patience):
        try:
            if state.iteration < (state.epochs + 1) * options.epoch_iters:
                stop_for = _train_epoch(run, data, stop, loggers)
            else:
                _end_epoch(run, stop, loggers)
        except Interrupted as interrupted:  # only waits and validations are interruptible
            stop_for = interrupted.signal
    if stop_for:
        _save(run, loggers)
        run.saver.wait()
        log.info(
            "Stopped by %s after iteration %d of epoch %d. To resume from %s, repeat the command with "
            "TRAIN.resume auto%s",
            *(Signals(stop_for).name, state.iteration - state.epochs * options.epoch_iters),
            *(state.epochs + 1, options.folder / NAME),
            " and without TRAIN.start_epoch" if options.start_epoch else "",
        )
    elif state.epochs < options.num_epoch:
        log.info("Stopped early: %d validations were not better than %.4f", state.stale, state.best or 0)
    run.saver.wait()
    stop.wait()
    return stop_for


def _train_epoch(run: Run, data: Batches, stop: StopAgreement, loggers: Loggers | None) -> int:
    """Train to the end of the epoch, or until a signal asks to stop. Returns the signal's number, or 0."""
    options, state, process = run.options, run.state, run.process
    epoch, epoch_iters = state.epochs + 1, options.epoch_iters
    done = state.iteration % epoch_iters
    with Progress(
        epoch,
        options.num_epoch,
        epoch_iters,
        done=done,
        window=state.window,
        device=process.device,
        enabled=process.is_first,
    ) as progress:
        for i in range(done + 1, epoch_iters + 1):
            with stop.interruptible():
                loaded = next(data)
            batch = [
                [on_device(shard, device) for shard, device in zip(shards, run.devices, strict=True)]
                for shards in loaded
            ]
            progress.loaded()
            _seed(options.seed, state.iteration, process.rank)
            set_rates(run.optimizer, run.schedule, state.iteration, run.rate_scale)
            run.module.set_progress(state.iteration / options.iterations)
            result = step(
                run.net,
                run.optimizer,
                batch,
                process,
                where=f"epoch {epoch}, iteration {i}",
                clip_grad_norm=options.clip_grad_norm,
                precision=run.precision,
            )
            if run.average is not None:
                run.average.update(run.module)
            state.iteration += 1
            state.sub_batches += run.sub_batches
            state.unlabelled += not result.pixels
            _check_labels(options, state)
            progress.step(result, images=options.batch_size_per_gpu * run.sub_batches)
            if i % options.disp_iter == 0 or i == epoch_iters:
                groups = run.optimizer.param_groups
                line = progress.show(group["lr"] for group in groups if group["factor"] == 1)
                state.history.add(epoch - 1 + i / epoch_iters, line.loss, line.accuracy, run.rates())
                if loggers is not None:
                    loggers.line(line, run.rates())
            if stop_for := stop.signal():
                return stop_for
            run.saver.poll()
            if options.save_iters and state.iteration % options.save_iters == 0 and i < epoch_iters:
                _save(run, loggers)
                progress.pause()
    return 0


def _check_labels(options: RunOptions, state: TrainState) -> None:
    """End a training whose first iterations had no labelled pixel. Raises: UserError."""
    if state.unlabelled == state.iteration == _FIRST_ITERATIONS:
        raise UserError(
            f"None of the first {_FIRST_ITERATIONS} iterations had a labelled pixel, so nothing is "
            f"learned. To see which values the labels hold: mit-semseg data check {options.train_list}. "
            "Then set DATASET.label_offset and DATASET.ignore_label to fit them."
        )


@contextmanager
def _advising(run: Run) -> Iterator[None]:
    """Inside the block, a `DivergenceError` gets advice and the place to resume from."""
    try:
        yield
    except DivergenceError as error:
        advice = ["Lower TRAIN.lr_encoder and TRAIN.lr_decoder", "set TRAIN.warmup_iters"]
        if not run.options.clip_grad_norm:
            advice.append("set TRAIN.clip_grad_norm 1")
        if run.precision.amp != "none":
            advice.append("set TRAIN.amp none")
        where = (
            f"{run.options.folder} holds no state yet: the same command starts from the same point."
            if run.saved is None
            else f"{run.options.folder / NAME} holds the state after iteration {run.saved}. "
            "TRAIN.resume auto resumes from it."
        )
        raise DivergenceError(f"{error} {', or '.join(advice)}. {where}") from None


@contextmanager
def batches(
    options: RunOptions, dataset: TrainDataset, process: ProcessInfo, devices: int, state: TrainState
) -> Iterator[Batches]:
    """Inside the block, loader processes prefetch the data of this process.

    Args:
        devices: number of devices of this process. With n devices in the run and f sub-batches used so far,
            device r takes the sub-batches f + r, f + r + n, f + r + 2n, ... of the schedule.

    Yields: an iterator. For each iteration, it gives ``accumulate`` lists of one sub-batch for each device.
    Raises: UserError for a file that cannot be used, ProcessError for a loader process that dies.
    """
    count, first = devices * options.accumulate, state.sub_batches
    left = options.iterations - state.iteration
    indices = range(first + process.rank, first + left * process.size * count, process.size)
    with loading(dataset.sub_batch, indices, workers=options.workers, device=process.device) as items:
        yield _iterations(raise_errors(items), Skipped(dataset.num_sample), count, devices)


def _iterations(items: Iterator[dict[str, Any]], skipped: Skipped, count: int, devices: int) -> Batches:
    while shards := list(islice(items, count)):
        for shard in shards:
            skipped.add(shard.pop("skipped"))
        yield [shards[k : k + devices] for k in range(0, count, devices)]


def _seed(seed: int, iteration: int, rank: int) -> None:
    """Seed dropout by the iteration, so that a resumed run draws the same numbers as an uninterrupted one."""
    torch.manual_seed(int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1)[0]))


def _end_epoch(run: Run, stop: StopAgreement, loggers: Loggers | None) -> None:
    """Validate if a validation is due, and start to write the files of the epoch.

    The state is written last. A run that crashes before that writes the same files again when it resumes.
    """
    options, epoch = run.options, run.state.epochs + 1
    validation = run.validation if run.validation is not None and run.validation.is_due(epoch) else None
    if validation is not None:
        _save(run, loggers)  # a long validation may be interrupted, too
        run.saver.wait()
    best = False
    with weights_to_score(run.module, run.average):
        if validation is not None:
            best = _validate(run, validation, epoch, stop, loggers)
        files = run.epoch_files(epoch, best=best)
    run.state.epochs = epoch
    if loggers is not None:
        loggers.flush()

    def finish() -> None:
        if run.keeps:
            drop_old_epochs(options.folder, epoch, options.keep_checkpoints)
        if loggers is not None:
            loggers.saved(epoch, best=best)
            get_logger().info("Saved %s", epoch_path(options.folder, "encoder", epoch))

    run.save(epoch=files, then=finish)


def _validate(
    run: Run, validation: Validation, epoch: int, stop: StopAgreement, loggers: Loggers | None
) -> bool:
    """Score the weights that the module has now. Returns whether they are the best so far."""
    with stop.interruptible():
        scores = validation.score(run.module, run.process)
    best = run.state.validated(epoch, scores.mean_iou, scores.accuracy)
    get_logger().info(
        "Epoch %d/%d  validation on %d images: mean IoU %.4f, accuracy %.2f%%%s",
        *(epoch, run.options.num_epoch, scores.images, scores.mean_iou, 100 * scores.accuracy),
        ", the best so far" if best else "",
    )
    if loggers is not None:
        loggers.validated(epoch, scores)
    return best


def _save(run: Run, loggers: Loggers | None) -> None:
    if loggers is not None:
        loggers.flush()
    run.save()


def _try_out(run: Run) -> None:
    """Fail now rather than later if memory is too small or the validation raises an error."""
    with naming_use_of_shares():
        dry_run(run.net, run.dataset, run.process, run.devices, run.precision, run.state.sub_batches)
    if run.validation is not None:
        run.validation.try_out(run.module, run.process)
