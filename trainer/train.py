"""`tinyvla train`: the whole training run, top to bottom."""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from clients.lerobot_v3 import LeRobotDataset, dataset_hash
from policy.errors import UsageError
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.normalize import range_stats
from policy.spec import PolicySpec, RangeStats
from trainer.augment import random_shift
from trainer.cache import FrameCache, open_cache
from trainer.checkpoint import load_checkpoint, load_weights, restore_optimizer, save_checkpoint
from trainer.contract import cameras_of, check_alike, check_same_senses, make_spec
from trainer.ema import EMA
from trainer.loader import Samples, batches_per_epoch, prefetch, rows_of_batch
from trainer.losses import Corruption, Example, compute_losses, draw_corruption, to_example
from trainer.settings import TrainArgs, check_flags, with_preset
from trainer.windows import Windows, split_episodes

# This many unusable batches in a row are no accident.
_MAX_CONSECUTIVE_NAN = 20
_DEBUG_BATCHES = 4
# Anything else decides what a batch holds or how it is learnt from, and a resumed run would silently be another one.
MAY_CHANGE_ON_RESUME = frozenset(
    {
        "resume",
        "out",
        "dataset_dir",
        "init_from",
        "epochs",
        "patience",
        "threads",
        "save_every",
        "keep_every",
        "device",
    }
)


@dataclass(frozen=True)
class Auxiliary:
    """Privileged quantities that the encoder learns to read off the images; never an input."""

    names: tuple[str, ...]
    index: np.ndarray  # columns of the dataset's environment state
    stats: RangeStats | None

    @classmethod
    def choose(cls, wanted: tuple[str, ...], names: tuple[str, ...], caches: list[FrameCache]) -> Auxiliary:
        """`wanted` are prefixes such as `goal`; of each, the position columns (x, y, z) are taken."""
        index = [
            i
            for i, name in enumerate(names)
            if name.rpartition("_")[0] in wanted and name[-2:] in ("_x", "_y", "_z")
        ]
        if not index:
            return cls((), np.zeros(0, np.int64), None)
        values = np.concatenate([cache.environment_state[:, index] for cache in caches])
        return cls(tuple(names[i] for i in index), np.asarray(index), range_stats(values))


@dataclass
class Progress:
    """Where a run stands; stored in every checkpoint."""

    batches: int = 0
    steps: int = 0
    best: float = math.inf
    epochs_without_gain: int = 0
    skipped: int = 0
    consecutive_nan: int = 0
    sums: dict[str, float] = field(
        default_factory=lambda: {"loss": 0.0, "auxiliary": 0.0, "grad": 0.0, "n": 0.0}
    )
    validation: list[float] = field(default_factory=list)


def learning_rate(step: int, total: int, peak: float, warmup_ratio: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak. `step` counts from 0."""
    warmup = max(1, round(total * warmup_ratio))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def make_optimizer(network: PolicyNetwork, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only."""
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    rest = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: this torch sees no CUDA device; use --device cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: no such device; use auto, cpu or cuda") from None


def wants_bf16(precision: str, device: torch.device) -> bool:
    """bf16 only where it is fast: CUDA with support, or a CPU with AVX512-BF16 or AMX instructions."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


class Trainer:
    """One run: data, network, optimiser and where it stands."""

    def __init__(self, args: TrainArgs) -> None:
        check_flags(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        self.device = pick_device(args.device)
        datasets = [LeRobotDataset(path) for path in args.dataset_dir]
        check_alike(datasets)
        facts = datasets[0].facts
        caches = [open_cache(dataset, cameras_of(facts)) for dataset in datasets]
        splits = [split_episodes(cache.num_episodes, args.val_split, args.seed) for cache in caches]
        self.train_samples = Samples(
            [Windows(cache, train, args.horizon) for cache, (train, _) in zip(caches, splits, strict=True)]
        )
        self.val_samples = Samples(
            [
                Windows(c, held_out, args.horizon)
                for c, (_, held_out) in zip(caches, splits, strict=True)
                if len(held_out)
            ]
        )
        self.args = resolved = with_preset(args, len(self.train_samples))
        self.auxiliary = Auxiliary.choose(args.auxiliary, tuple(facts.environment_state_names or ()), caches)
        self.spec: PolicySpec = make_spec(args, facts, caches, [train for train, _ in splits])
        config = NetworkConfig(
            hidden_dim=args.hidden_dim, layers=args.layers, auxiliary_targets=self.auxiliary.names
        )
        torch.manual_seed(args.seed)
        self.network = PolicyNetwork(self.spec, config).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if args.init_from is not None:
            self._start_from(args.init_from)
        self.ema = EMA(self.network, args.ema_decay)
        self.optimizer = make_optimizer(self.network, resolved.lr, args.weight_decay)
        self.bf16 = wants_bf16(args.precision, self.device)
        self.per_epoch = batches_per_epoch(len(self.train_samples), resolved.batch_size)
        if args.debug:
            self.per_epoch = min(self.per_epoch, _DEBUG_BATCHES)
        self.total_steps = resolved.epochs * -(-self.per_epoch // args.grad_accum)
        self.progress = Progress()
        self.data_hashes: dict[str, str] = {}
        for number, dataset in enumerate(datasets):
            name = dataset.root.name
            if name in self.data_hashes:  # two datasets may share a directory name
                name = f"{name}-{number}"
            self.data_hashes[name] = dataset_hash(dataset.root)
        if args.resume:
            self._resume()

    def _start_from(self, directory: Path) -> None:
        weights, spec = load_weights(directory)
        check_same_senses(spec, self.spec, f"--init-from {directory}")
        own = self.network.state_dict()
        # A bundle lacks the training-only auxiliary head; it starts anew.
        fresh = {name: own[name] for name in own if name.startswith("encoder.auxiliary.")}
        try:
            self.network.load_state_dict({**fresh, **weights})
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise UsageError(f"--init-from {directory}: its network has another shape ({first})") from None
        # The weights expect the statistics they were trained with.
        self.spec = self.spec.model_copy(update={"normalization": spec.normalization})

    def _resume(self) -> None:
        found = load_checkpoint(self.args.out / "last")
        if found.spec != self.spec:
            raise UsageError(
                f"{self.args.out}/last was trained on other data or with other settings; drop --resume"
            )
        if found.state["data_hashes"] != self.data_hashes:
            raise UsageError(f"{self.args.out}/last was trained on other data; give --dataset-dir as it was")
        before, now = found.state["arguments"], self._arguments()
        for name in sorted(set(now) - MAY_CHANGE_ON_RESUME):
            if before.get(name) != now[name]:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{self.args.out}/last was trained with {flag} {before.get(name)}, not {now[name]}; "
                    "give it as it was, or drop --resume"
                )
        self.network.load_state_dict(found.model)
        self.ema.module.load_state_dict(found.ema)
        restore_optimizer(self.optimizer, self.network, found.optimizer)
        self.progress = Progress(**found.state["progress"])

    def _arguments(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return json.loads(json.dumps(dataclasses.asdict(self.args), default=str))

    def save(self, name: str) -> None:
        """Write a checkpoint under the run directory."""
        state = {
            "progress": dataclasses.asdict(self.progress),
            "arguments": self._arguments(),
            "data_hashes": self.data_hashes,
        }
        save_checkpoint(self.args.out / name, self.network, self.ema.module, self.optimizer, self.spec, state)

    def prepared(self, number: int) -> tuple[Example, Corruption]:
        """Training batch `number`, augmented and with its noise drawn."""
        args = self.args
        epoch, within = divmod(number, self.per_epoch)
        place = epoch * batches_per_epoch(len(self.train_samples), args.batch_size) + within
        rows = rows_of_batch(place, len(self.train_samples), args.batch_size, args.seed)
        batch = self.train_samples.batch(rows)
        rng = np.random.default_rng([args.seed, number, 1])
        batch = dataclasses.replace(batch, images=random_shift(batch.images, args.shift, rng))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        corruption = draw_corruption(
            generator, len(rows), args.draws, self.spec, prefix_probability=args.prefix_probability,
            state_noise=args.state_noise, state_dropout=args.state_dropout,
        )  # fmt: skip
        example = to_example(batch, self.spec, self.auxiliary.index, self.auxiliary.stats, self.device)
        return example, Corruption(**{k: v.to(self.device) for k, v in vars(corruption).items()})

    def train_epoch(self, epoch: int) -> float:
        """Run an epoch from wherever the run stands in it; returns samples per second."""
        args, progress = self.args, self.progress
        self.network.train()
        end = (epoch + 1) * self.per_epoch
        start, started = progress.batches, time.perf_counter()
        for example, corruption in prefetch(self.prepared, range(start, end)):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                losses = compute_losses(self.network, self.spec, example, corruption)
            total = losses.action + args.auxiliary_weight * losses.auxiliary
            progress.batches += 1
            if self._finite(float(total.detach())):
                (total / args.grad_accum).backward()
                progress.sums["loss"] += float(losses.action.detach())
                progress.sums["auxiliary"] += float(losses.auxiliary.detach())
                progress.sums["n"] += 1
            within = progress.batches % self.per_epoch
            if within % args.grad_accum == 0 or within == 0:  # the trailing batches of an epoch count too
                self._step()
                if args.save_every and progress.steps % args.save_every == 0 and within:
                    self.save("last")
        return (progress.batches - start) * args.batch_size / (time.perf_counter() - started)

    def _finite(self, value: float) -> bool:
        """False for a loss or gradient to skip; stops the run when nothing else came since the last step taken."""
        progress = self.progress
        if math.isfinite(value):
            return True
        progress.skipped += 1
        progress.consecutive_nan += 1
        if progress.consecutive_nan >= _MAX_CONSECUTIVE_NAN:
            rate = learning_rate(progress.steps, self.total_steps, self.args.lr, self.args.warmup_ratio)
            raise UsageError(
                f"the loss was not finite {_MAX_CONSECUTIVE_NAN} times in a row at step {progress.steps}: "
                f"the weights have diverged (learning rate {rate:.1e}; try a tenth) or the data hold extreme values"
            )
        return False

    def _step(self) -> None:
        args, progress = self.args, self.progress
        rate = learning_rate(progress.steps, self.total_steps, args.lr, args.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        progress.steps += 1
        if all(p.grad is None for p in self.network.parameters()):
            return  # every batch of this step was skipped
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), args.max_grad_norm)
        if self._finite(float(norm)):
            self.optimizer.step()
            self.ema.update(self.network, progress.steps)
            progress.sums["grad"] += float(norm)
            progress.consecutive_nan = 0
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def validate(self) -> tuple[float, np.ndarray]:
        """Averaged weights on held-out episodes: action loss, mean error of each auxiliary position in metres."""
        args, samples = self.args, self.val_samples
        losses, errors, weight = 0.0, np.zeros(len(self.auxiliary.names)), 0
        # Noise is the same at every epoch, so that epochs can be compared.
        limit = min(len(samples), 4 * _DEBUG_BATCHES if args.debug else 2048)
        chosen = np.random.default_rng([args.seed, 2]).permutation(len(samples))[:limit]
        for start in range(0, limit, 64):
            rows = np.sort(chosen[start : start + 64])
            batch = samples.batch(rows)
            example = to_example(batch, self.spec, self.auxiliary.index, self.auxiliary.stats, self.device)
            corruption = draw_corruption(
                torch.Generator().manual_seed(start), len(rows), args.draws, self.spec, prefix_probability=0.0,
                state_noise=0.0, state_dropout=0.0,
            )  # fmt: skip
            corruption = Corruption(**{k: v.to(self.device) for k, v in vars(corruption).items()})
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                found = compute_losses(self.ema.module, self.spec, example, corruption)
                if self.auxiliary.names:
                    encoder = self.ema.module.encoder
                    guess = encoder.locate(encoder.see(example.images, example.tokens)).float()
                    errors += (guess - example.auxiliary).abs().sum(0).cpu().numpy()
            losses += float(found.action) * len(rows)
            weight += len(rows)
        if self.auxiliary.stats is not None:
            stats = self.auxiliary.stats
            errors *= (np.asarray(stats.maximum) - np.asarray(stats.minimum)) / 2
        return losses / weight, errors / weight

    def memory_mb(self) -> float:
        """Peak memory: the device's where there is one, else the process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 1e6
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    def run(self) -> None:
        """Train to the end, or until patience runs out."""
        from torch.utils.tensorboard import SummaryWriter

        args, progress = self.args, self.progress
        args.out.mkdir(parents=True, exist_ok=True)
        board = SummaryWriter(str(args.out / "tensorboard"))
        log = (args.out / "log.txt").open("a")

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=log, flush=True)

        parameters = sum(p.numel() for p in self.network.parameters())
        say(
            f"{self.spec.name}: {args.head}, {parameters / 1e6:.2f} M parameters, {len(self.train_samples)} samples, "
            f"{len(self.val_samples)} held out, {self.total_steps} steps, "
            f"{self.device.type} {'bf16' if self.bf16 else 'fp32'}"
        )
        for epoch in range(progress.batches // self.per_epoch, args.epochs):
            if args.patience and progress.epochs_without_gain >= args.patience:
                say(f"no better validation loss for {args.patience} epochs: stopped")
                break
            rate = self.train_epoch(epoch)
            value, errors = self.validate() if len(self.val_samples) else (math.nan, np.zeros(0))
            sums, count = progress.sums, max(1.0, progress.sums["n"])
            scalars: dict[str, float] = {
                "loss/train": sums["loss"] / count,
                "loss/validation": value,
                "loss/auxiliary": sums["auxiliary"] / count,
                "gradient_norm": sums["grad"] / max(1, -(-self.per_epoch // args.grad_accum)),
                "learning_rate": learning_rate(
                    progress.steps - 1, self.total_steps, args.lr, args.warmup_ratio
                ),
                "memory_mb": self.memory_mb(),
                "samples_per_second": rate,
            }
            scalars |= {f"error_m/{n}": e for n, e in zip(self.auxiliary.names, errors, strict=False)}
            for name, scalar in scalars.items():
                board.add_scalar(name, scalar, progress.steps)
            line = (
                f"Epoch {epoch + 1:02d} | Loss: {scalars['loss/train']:.4f} | Val: {value:.4f} | "
                f"Grad: {scalars['gradient_norm']:.2f} | LR: {scalars['learning_rate']:.1e} | "
                f"Mem: {scalars['memory_mb']:.0f}MB | {rate:.0f} samples/s"
            )
            if len(errors):
                line += f" | Position error: {100 * float(errors.mean()):.1f} cm"
            if progress.skipped:
                line += f" | Skipped: {progress.skipped}"
            say(line)
            progress.sums = Progress().sums
            progress.validation.append(value)
            better = math.isnan(value) or value < progress.best
            progress.best = min(value, progress.best) if not math.isnan(value) else progress.best
            progress.epochs_without_gain = 0 if better else progress.epochs_without_gain + 1
            if better:
                self.save("best")
            if args.keep_every and (epoch + 1) % args.keep_every == 0:
                self.save(f"epoch{epoch + 1}")
            self.save("last")
        board.close()
        log.close()


def main(argv: list[str]) -> int:
    """Entry of `tinyvla train`."""
    args = tyro.cli(TrainArgs, args=argv, prog="tinyvla train")
    if (args.out / "last").exists() and not args.resume and not args.debug:
        raise UsageError(f"{args.out} already holds a run; add --resume to go on, or choose another --out")
    Trainer(args).run()
    return 0
