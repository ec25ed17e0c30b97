"""`tinyvla train`: the whole training run, top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch

from policy.errors import UsageError
from policy.networks.network import PolicyNetwork
from policy.runtimes.torch_device import torch_device
from policy.spec import PolicySpec
from policy.text import text_encoder
from service.flags import parse_flags
from trainer.augment import check_shift
from trainer.auxiliary import Auxiliary
from trainer.backbone_choice import backbone_directory, choose_backbone, finish_backbone, prepare_backbone
from trainer.calibration.curve import Kind, read_calibration
from trainer.checkpoint import Checkpoint, load_checkpoint, restore_optimizer, save_checkpoint
from trainer.chunk_pictures import picture_of_samples
from trainer.closed_loop import ClosedLoop
from trainer.code_version import code_version
from trainer.contract import environment_units, make_spec
from trainer.device import peak_memory_mb, wants_bf16
from trainer.ema import EMA, ShardedEMA
from trainer.epoch_report import EpochReport
from trainer.loader import batches_per_epoch, prefetch
from trainer.losses import Corruption, Example, Losses, compute_losses
from trainer.network_choice import choose_network
from trainer.optimizer import learning_rate, make_optimizer
from trainer.optimizer_step import OptimizerStep
from trainer.parallel import join
from trainer.run_log import RunLog
from trainer.run_state import Progress, check_same_run, check_vacant
from trainer.settings import TrainArgs, arguments_of, check_flags, with_preset
from trainer.start_weights import start_from
from trainer.step_log import StepLog
from trainer.training_batch import training_batch
from trainer.training_data import check_finite, open_training_data
from trainer.validation import Validation, validate

_DEBUG_BATCHES = 4
_VALIDATION_SAMPLES = 2048


class Trainer:
    """One run: data, network, optimiser and where it stands."""

    def __init__(self, args: TrainArgs) -> None:
        check_flags(args)
        self.code_version = code_version()
        self.processes = join(torch_device(args.device, args.threads), args.fsdp)
        self.device = self.processes.device
        if self.processes.sharded and args.backbone is not None:
            raise UsageError(
                "--fsdp shards networks without a --backbone; leave it out, and each card holds all of it"
            )
        tokens_of = text_encoder(args.backbone is not None)
        self.data = self.processes.in_turn(
            lambda: open_training_data(
                args.dataset_dir, args.horizon, args.max_prefix, args.val_split, args.split_seed, tokens_of
            )
        )
        self.args = resolved = with_preset(args, len(self.data.train))
        facts, caches = self.data.facts, self.data.caches
        self.auxiliary = Auxiliary.choose(args.auxiliary, tuple(facts.environment_state_names or ()), caches)
        check_finite(self.data, self.auxiliary.index)
        spec = make_spec(args, facts, caches, [train for train, _ in self.data.splits])
        check_shift(args.shift, spec.cameras)
        self.spec: PolicySpec = spec.model_copy(update={"backbone": choose_backbone(args, spec, self.device)})
        torch.manual_seed(args.seed)
        self.network = PolicyNetwork(self.spec, choose_network(args, self.auxiliary)).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.about_backbone = prepare_backbone(args, self.network)
        if args.init_from is not None and not args.resume:
            self.spec = start_from(args.init_from, self.network, self.spec)
        average = ShardedEMA if self.processes.sharded else EMA
        self.ema: EMA[PolicyNetwork] = average(self.network, args.ema_decay)
        self.bf16 = wants_bf16(args.precision, self.device)
        self.per_epoch = batches_per_epoch(len(self.data.train), resolved.batch_size)
        if args.debug:
            self.per_epoch = min(self.per_epoch, _DEBUG_BATCHES)
        self.per_step = args.grad_accum * self.processes.count
        self.steps_per_epoch = -(-self.per_epoch // self.per_step)
        self.total_steps = resolved.epochs * self.steps_per_epoch
        self.progress = Progress()
        self.calibration = None if args.calibration is None else read_calibration(args.calibration)
        self.step_log = StepLog(
            self.spec.sampler.train_steps if self.spec.sampler else None, self.processes.count
        )
        self.closed_loop: ClosedLoop | None = None
        if args.evaluate_every:
            self.closed_loop = ClosedLoop(
                self.spec, args.evaluate_tasks, episodes=args.evaluate_episodes, workers=args.evaluate_workers,
                seed=args.seed,
            )  # fmt: skip
        found = self._resume() if args.resume else None
        self.losses = self.processes.spread(self.network, self._losses)
        self.ema.spread(self.network)
        self.optimizer = make_optimizer(self.network, resolved.lr, args.weight_decay)
        if found is not None:
            restore_optimizer(self.optimizer, self.network, found.optimizer)
        self._optimizer_step = OptimizerStep(
            self.network, self.ema, self.optimizer, self.progress, self._rate, args.max_grad_norm
        )

    def _resume(self) -> Checkpoint:
        where = self.args.out / "last"
        found = load_checkpoint(where)
        check_same_run(found, where, self.spec, self.data.hashes, self.args, self.processes.count)
        self.spec = found.spec  # under the name it began with
        began = found.state["arguments"].get("init_from")  # which need not be there any more
        self.args = dataclasses.replace(self.args, init_from=None if began is None else Path(began))
        self.network.load_state_dict(found.model)
        self.ema.load(found.ema)
        self.progress = Progress(**found.state["progress"])
        return found

    def save(self, name: str) -> None:
        """Write a checkpoint under the run directory."""
        if self.processes.rank and not self.processes.sharded:
            return
        state = {
            "progress": dataclasses.asdict(self.progress),
            "arguments": arguments_of(self.args),
            "data_hashes": self.data.hashes,
            "processes": self.processes.count,
            "code_version": self.code_version,
            "backbone_directory": backbone_directory(self.spec),
        }
        where = None if self.processes.rank else self.args.out / name
        save_checkpoint(where, self.network, self.ema.module, self.optimizer, self.spec, state)

    def prepared(self, number: int) -> tuple[Example, Corruption]:
        """Training batch `number`, augmented and with its noise drawn."""
        return training_batch(
            number, self.per_epoch, self.data.train, self.spec, self.auxiliary, self.args, self.device
        )

    def _losses(self, example: Example, corruption: Corruption) -> Losses:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return compute_losses(self.network, self.spec, example, corruption, self.args.sensor_loss_weight)

    def train_epoch(self, epoch: int, log: RunLog) -> float:
        """Run an epoch from wherever the run stands in it; returns samples per second.

        The processes take the batches in turn, a round at a time, so that no two see the same one. Where the last
        round of an epoch has fewer batches than there are processes, the others pass a batch that does not count:
        passes wait for one another.
        """
        args, progress, processes = self.args, self.progress, self.processes
        self.network.train()
        self.step_log.go_on()
        end = (epoch + 1) * self.per_epoch
        start, started = progress.batches, time.perf_counter()
        rounds = range(start, end, processes.count)
        mine = [min(first + processes.rank, end - 1) for first in rounds]
        for first, (example, corruption) in zip(rounds, prefetch(self.prepared, mine), strict=True):
            progress.batches = min(first + processes.count, end)
            counts = first + processes.rank < end
            within = progress.batches % self.per_epoch
            complete = (
                within % self.per_step == 0 or within == 0
            )  # the trailing batches of an epoch count too
            with processes.gradients(complete=complete):
                losses = self.losses(example, corruption)
                total = losses.action + args.auxiliary_weight * losses.auxiliary
                told = [float(x.detach()) * counts for x in (total, losses.action, losses.auxiliary)]
                summed, action, auxiliary = processes.total(told)
                usable = self._optimizer_step.finite(summed)
                if usable or processes.count > 1:
                    (total / args.grad_accum if counts else total * 0).backward()
            if usable:
                progress.sums["loss"] += action
                progress.sums["auxiliary"] += auxiliary
                progress.sums["n"] += progress.batches - first
                if counts:
                    self.step_log.add(losses, corruption.timestep, len(example.state))
            if not usable and processes.count > 1:
                self._optimizer_step.spoil()
            if complete:
                self._optimizer_step.take(lambda: self._tell_step(log))
                if args.save_every and progress.steps % args.save_every == 0 and within:
                    self.save("last")
        self.step_log.pause()
        samples = min(self.per_epoch * args.batch_size, len(self.data.train))  # the last batch may be smaller
        return (samples - start % self.per_epoch * args.batch_size) / (time.perf_counter() - started)

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.total_steps, self.args.lr, self.args.warmup_ratio)

    def _tell_step(self, log: RunLog) -> None:
        """Every `--log-every` steps from the first on, and at the end of an epoch."""
        steps = self.progress.steps
        if (steps - 1) % self.args.log_every == 0 or self.progress.batches % self.per_epoch == 0:
            told = {**self.step_log.entry(self.network), "step/learning_rate": self._rate(steps - 1)}
            log.scalars(told, steps)

    def validate(self) -> Validation:
        """Judge the averaged weights on held-out episodes."""
        args = self.args
        return validate(
            self.ema.module, self.spec, self.data.held_out, self.auxiliary, draws=args.draws, seed=args.split_seed,
            limit=4 * _DEBUG_BATCHES if args.debug else _VALIDATION_SAMPLES, bf16=self.bf16,
            without_sensors=args.sensor_dropout > 0, processes=self.processes,
        )  # fmt: skip

    def _report(self, epoch: int, rate: float, found: Validation, success: dict[str, float]) -> EpochReport:
        sums = self.progress.sums
        count = sums["n"] or math.nan  # of an epoch whose batches were all skipped there is no loss
        return EpochReport(
            epoch=epoch,
            loss=sums["loss"] / count,
            validation=found.loss,
            auxiliary=sums["auxiliary"] / count,
            gradient_norm=sums["grad"] / max(1, self.steps_per_epoch),
            learning_rate=self._rate(self.progress.steps - 1),
            memory_mb=peak_memory_mb(self.device),
            samples_per_second=rate,
            position_errors=dict(zip(self.auxiliary.names, found.position_errors.tolist(), strict=False)),
            skipped=self.progress.skipped,
            position_units=environment_units(self.data.facts),
            validation_without_sensors=found.loss_without_sensors,
            success=success,
        )

    def _picture(self, log: RunLog) -> None:
        samples = self.data.held_out if len(self.data.held_out) else self.data.train
        network = self.ema.module  # every process asks for it; one draws
        if self.processes.rank == 0:
            picture = picture_of_samples(network, self.spec, samples, self.auxiliary, self.device)
            log.picture("chunks", picture, self.progress.steps)

    def run(self) -> None:
        """Train to the end, or until patience runs out."""
        try:
            with RunLog(self.args, self.spec, silent=self.processes.rank > 0) as log:
                self._run(log)
        finally:
            if self.closed_loop is not None:
                self.closed_loop.close()
            self.processes.close()

    def _run(self, log: RunLog) -> None:
        args, progress = self.args, self.progress
        parameters = sum(p.numel() for p in self.network.parameters())
        spread = "" if self.processes.count == 1 else f", {self.processes.count} processes"
        log.say(
            f"{self.spec.name}: {args.head}, {parameters / 1e6:.2f} M parameters, {len(self.data.train)} samples, "
            f"{len(self.data.held_out)} held out, {self.total_steps} steps, "
            f"{self.device.type} {'bf16' if self.bf16 else 'fp32'}{spread}"
        )
        curve = None
        if self.calibration is not None:
            kind = Kind.of(self.spec, self.data.hashes.values(), (self.args.val_split, self.args.split_seed))
            curve = self.calibration.curve_for(kind)
            log.say(self.calibration.says_of(kind))
        if self.about_backbone:
            log.say(self.about_backbone)
        for epoch in range(progress.batches // self.per_epoch, args.epochs):
            if args.patience and progress.epochs_without_gain >= args.patience:
                log.say(f"no better validation loss for {args.patience} epochs: stopped")
                break
            rate = self.train_epoch(epoch, log)
            found = self.validate() if len(self.data.held_out) else Validation(math.nan, np.zeros(0))
            success: dict[str, float] = {}
            if self.closed_loop is not None and (epoch + 1) % args.evaluate_every == 0:
                self.save("evaluated")
                if self.processes.rank == 0:
                    success = self.closed_loop.measure(args.out / "evaluated")
            log.epoch(self._report(epoch, rate, found, success), progress.steps)
            if args.pictures_every and (epoch + 1) % args.pictures_every == 0:
                self._picture(log)
            progress.sums = Progress().sums
            if progress.note_validation(found.loss, held_out=len(self.data.held_out) > 0):
                if curve is not None and math.isfinite(found.loss):
                    log.say(curve.says(found.loss))
                self.save("best")
            if args.keep_every and (epoch + 1) % args.keep_every == 0:
                self.save(f"epoch{epoch + 1}")
            self.save("last")
            if cached := finish_backbone(self.network):
                log.say(cached)


def main(argv: list[str]) -> int:
    """Entry of `tinyvla train`."""
    args = parse_flags(TrainArgs, argv, "tinyvla train")
    if not args.resume:
        check_vacant(args)
    Trainer(args).run()
    return 0
