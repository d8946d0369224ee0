"""Training: a loop over a deterministic sequence of sub-batches, one process a device."""

from collections.abc import Iterator, Sequence
from signal import Signals
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from ..checkpoint import epoch_path
from ..distributed import Place
from ..errors import UserError
from ..launch import count_processes, is_first_process, run, started_by_torchrun
from ..log import get_logger, remembering, setup_logger
from ..lr_schedule import set_rates
from ..stopping import Agreement, requests
from .recipe import check_recipe, schedule
from .setup import check_batch, check_model, check_weights, check_writable, class_table
from .training.epoch_files import drop_old_epochs, save_best, save_epoch
from .training.progress import Progress
from .training.rehearsal import rehearse
from .training.resume import Start, find_start
from .training.run import Run, batches, prepare, train_dataset
from .training.state import NAME
from .training.step import on_device, step
from .training.validation import Validation, weights_to_score
from .training.watch import Watch, watching


def train(cfg: CfgNode, devices: Sequence[torch.device]) -> None:
    """Train the model of ``cfg`` on ``devices``, writing a checkpoint into ``cfg.DIR`` after every epoch.

    Raises:
        SystemExit: with 128 and its number for a SIGTERM or SIGINT that ended it early, with its state saved.
        UserError: for a config, a list or a file that can't be used.
        ProcessError: when one of several processes fails.
        FloatingPointError: when the loss is not finite; the weights have not been touched by it.
    """
    check_model(cfg)
    check_recipe(cfg)
    check_batch(cfg, count_processes(devices))
    # Files that only the processes, or the evaluation, will need: a bad one is refused before a start.
    class_table(cfg)
    train_dataset(cfg)
    if cfg.VAL.every:
        Validation(cfg)
    start = find_start(cfg)
    if start.state is None and not start.epoch:
        check_weights(cfg.MODEL)
    if is_first_process():
        check_writable(cfg.DIR, "DIR")
    if start.finished:
        log = setup_logger(0 if is_first_process() else 1)
        for note in start.notes:
            log.info(note)
        return
    if cfg.TRAIN.parallel == "ddp":
        run(_train, devices, cfg, start, timeout_s=cfg.TRAIN.timeout)
    elif started_by_torchrun():
        raise UserError(
            "TRAIN.parallel is dp, which is one process, but torchrun starts many. Set it to ddp."
        )
    else:
        _train(Place(0, 1, devices[0]), cfg, start, devices)


def _train(place: Place, cfg: CfgNode, start: Start, devices: Sequence[torch.device] | None = None) -> None:
    """One process's share of the training, on several devices if it is given them."""
    log = setup_logger(place.rank)
    with remembering() as headline:
        this = prepare(place, cfg, start, devices or [place.device])
        for line in [this.describe(), *this.notes]:
            log.info(line)
    course = this.course
    _try_out(this)
    with watching(cfg, course, headline, enabled=place.is_first) as watch, requests() as asked:
        agreement = Agreement(asked)
        data = batches(cfg, this.dataset, place, len(this.devices), course)
        stop_for = 0
        while not stop_for and not course.has_ended(cfg.TRAIN.num_epoch, cfg.TRAIN.patience):
            if course.iteration < (course.epochs + 1) * cfg.TRAIN.epoch_iters:
                stop_for = _train_epoch(this, data, agreement, watch)
            else:
                _end_epoch(this, watch)
        if stop_for:
            _save(this, watch)
            log.info(
                "Stopped by %s behind iteration %d of epoch %d. To go on, repeat the command with "
                "TRAIN.resume auto: it takes up %s/%s",
                *(Signals(stop_for).name, course.iteration - course.epochs * cfg.TRAIN.epoch_iters),
                *(course.epochs + 1, cfg.DIR, NAME),
            )
        elif course.epochs < cfg.TRAIN.num_epoch:
            log.info(
                "Stopped early: %d validations have not been better than %.4f", course.stale, course.best or 0
            )
        agreement.wait()
    if stop_for:
        raise SystemExit(128 + stop_for)


def _train_epoch(
    this: Run, data: Iterator[list[list[dict[str, Any]]]], agreement: Agreement, watch: Watch | None
) -> int:
    """Train to the end of the epoch, or until a signal asks to stop; its number, else 0."""
    settings, course, place = this.cfg.TRAIN, this.course, this.place
    epoch, epoch_iters, rates = course.epochs + 1, settings.epoch_iters, schedule(settings)
    done = course.iteration % epoch_iters
    with Progress(
        epoch,
        settings.num_epoch,
        epoch_iters,
        done=done,
        window=course.window,
        device=place.device,
        enabled=place.is_first,
    ) as progress:
        for i in range(done + 1, epoch_iters + 1):
            batch = [
                [on_device(shard, device) for shard, device in zip(shards, this.devices, strict=True)]
                for shards in next(data)
            ]
            progress.loaded()
            _seed(settings.seed, course.iteration, place.rank)
            set_rates(this.optimizer, rates, course.iteration)
            shown = step(
                this.net,
                this.optimizer,
                batch,
                place,
                where=f"epoch {epoch}, iteration {i}",
                clip_grad_norm=settings.clip_grad_norm,
                precision=this.precision,
            )
            if this.average is not None:
                this.average.update(this.module)
            course.iteration += 1
            course.sub_batches += this.sub_batches
            progress.step(shown.loss, shown.accuracy, images=settings.batch_size_per_gpu * this.sub_batches)
            if i % settings.disp_iter == 0 or i == epoch_iters:
                line = progress.show(group["lr"] for group in this.optimizer.param_groups)
                course.history.add(epoch - 1 + i / epoch_iters, line.loss, line.accuracy, this.rates())
                if watch is not None:
                    watch.line(line, this.rates())
            if stop_for := agreement.number():
                return stop_for
            if settings.save_iters and course.iteration % settings.save_iters == 0 and i < epoch_iters:
                _save(this, watch)
                progress.leave_out()
    return 0


def _seed(seed: int, iteration: int, rank: int) -> None:
    """Dropout draws from here, so that a resumed run draws what the uninterrupted one did."""
    torch.manual_seed(int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1)[0]))


def _end_epoch(this: Run, watch: Watch | None) -> None:
    """Validate, if it is time to, and write the files of the epoch.

    The state comes last: whatever a crash leaves out is made again, and comes out the same.
    """
    cfg, course, epoch = this.cfg, this.course, this.course.epochs + 1
    validation = this.validation if this.validation is not None and this.validation.is_due(epoch) else None
    if validation is not None:
        _save(this, watch)  # a long validation may be interrupted, too
    best = False
    with weights_to_score(this.module, this.average):
        if validation is not None:
            best = _validate(this, validation, epoch, watch)
        if this.place.is_first:
            save_epoch(cfg.DIR, epoch, this.module, course.history)
            if best:
                save_best(cfg.DIR, this.module)
    course.epochs = epoch
    _save(this, watch)
    if watch is not None:
        drop_old_epochs(cfg.DIR, epoch, cfg.TRAIN.keep_checkpoints)
        watch.draw()
        get_logger().info("Saved %s", epoch_path(cfg.DIR, "encoder", epoch))


def _validate(this: Run, validation: Validation, epoch: int, watch: Watch | None) -> bool:
    """Score the weights that the module has now; returns whether they are the best so far."""
    scores = validation.score(this.module, this.place)
    best = this.course.validated(epoch, scores.mean_iou, scores.accuracy)
    get_logger().info(
        "Epoch %d/%d  validation on %d images: mean IoU %.4f, accuracy %.2f%%%s",
        *(epoch, this.cfg.TRAIN.num_epoch, scores.images, scores.mean_iou, 100 * scores.accuracy),
        ", the best so far" if best else "",
    )
    if watch is not None:
        watch.validated(epoch, scores)
    return best


def _save(this: Run, watch: Watch | None) -> None:
    if watch is not None:
        watch.flush()
    this.save()


def _try_out(this: Run) -> None:
    """Fail now with what would fail later: memory that runs out, a validation that can't be done."""
    rehearse(this.net, this.dataset, this.place, this.devices, this.precision, this.course.sub_batches)
    if this.validation is not None:
        this.validation.try_out(this.module, this.place)
