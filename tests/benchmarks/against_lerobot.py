"""Training throughput against lerobot's diffusion policy, on the same data, in turn.

    python -m tests.benchmarks.against_lerobot --lerobot-python VENV/bin/python

lerobot 0.4 lives in an environment of its own, whose Python trains the other half as a subprocess. Both halves read
the same dataset, which is collected first, in the same batches, and both networks have about the same size: it is set
here so that they do, by the width and depth of the trunk on this side and of the U-Net on the other. What is measured
is each side's own training loop, with loading, augmentation, optimiser and, on this side, the averaged weights. A side
whose turn it is not stands still, its loader too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from trainer import collect
from trainer.run_log import RunLog
from trainer.settings import TrainArgs
from trainer.train import Trainer

_HORIZON = 16  # lerobot's default
_DOWN_DIMS = (64, 128, 256)
_HIDDEN_DIM, _LAYERS = 384, 7
_NEARLY = 0.1  # how far apart the parameter counts may be
_HALF = Path(__file__).with_name("lerobot_training.py")


class Ours:
    """Trains as `tinyvla train` does."""

    def __init__(self, data: Path, out: Path, given: argparse.Namespace, draws: int) -> None:
        self.args = TrainArgs(
            dataset_dir=(data,), out=out, batch_size=given.batch, epochs=1000, lr=1e-4, horizon=_HORIZON,
            max_prefix=_HORIZON // 2, hidden_dim=_HIDDEN_DIM, layers=_LAYERS, draws=draws, val_split=0.0,
            save_every=0, device="cpu", threads=given.threads,
        )  # fmt: skip
        with redirect_stdout(StringIO()):
            self.trainer = Trainer(self.args)
        self.parameters = sum(p.numel() for p in self.trainer.network.parameters())
        precision = "bf16" if self.trainer.bf16 else "fp32"
        self.name = f"tinyvla, {precision}, {draws} noise draw{'s' * (draws > 1)} a sample"
        self._log = RunLog(self.args, self.trainer.spec)
        self._blocks = 0

    def run(self, steps: int) -> tuple[float, float]:
        """(samples a second, milliseconds of processor time a sample)."""
        trainer = self.trainer
        trainer.per_epoch, trainer.progress.batches = steps, self._blocks * steps
        used = time.process_time()
        rate = trainer.train_epoch(self._blocks, self._log)
        used = time.process_time() - used
        self._blocks += 1
        return rate, 1e3 * used / (steps * self.args.batch_size)

    def close(self) -> None:
        self._log.__exit__(None, None, None)


class Theirs:
    """lerobot's half; stands still except in `run`."""

    def __init__(
        self, data: Path, cache: Path, given: argparse.Namespace, frames: int, precision: str
    ) -> None:
        flags = {
            "data": data, "batch": given.batch, "horizon": _HORIZON, "frames": frames, "workers": given.workers,
            "precision": precision, "threads": given.threads,
        }  # fmt: skip
        command = [given.lerobot_python, str(_HALF), "--down-dims", *map(str, _DOWN_DIMS)]
        command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "PYTHONPATH": ""}
        self.half = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | offline, process_group=0,
        )  # fmt: skip
        self.about = self._answer()
        self.parameters = self.about["parameters"]
        kind = "bf16" if precision == "bf16" else "fp32"
        self.name = f"lerobot, {kind}, {frames} frame{'s' * (frames > 1)} a sample"
        self.frames = frames
        os.killpg(self.half.pid, signal.SIGSTOP)

    def _answer(self) -> dict[str, Any]:
        assert self.half.stdout is not None
        line = self.half.stdout.readline()
        if not line:
            sys.exit(f"lerobot's half ended with {self.half.wait()}: {' '.join(self.half.args)}")  # type: ignore[arg-type]
        return json.loads(line)

    def _processor_seconds(self) -> float:
        """What the whole process group has used, its loader's processes included."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # a process that has just ended
                continue
            if int(fields[2]) == self.half.pid:
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def run(self, steps: int) -> tuple[float, float]:
        """(samples a second, milliseconds of processor time a sample)."""
        assert self.half.stdin is not None
        used = self._processor_seconds()
        os.killpg(self.half.pid, signal.SIGCONT)
        self.half.stdin.write(f"{steps}\n")
        self.half.stdin.flush()
        found = self._answer()
        os.killpg(self.half.pid, signal.SIGSTOP)
        used = self._processor_seconds() - used
        return found["samples"] / found["seconds"], 1e3 * used / found["samples"]

    def close(self) -> None:
        os.killpg(self.half.pid, signal.SIGKILL)
        self.half.wait()


def _check_sizes(ours: list[Ours], theirs: list[Theirs]) -> None:
    for mine in ours:
        for other in theirs:
            if abs(mine.parameters / other.parameters - 1) > _NEARLY:
                sys.exit(f"{mine.parameters} and {other.parameters} parameters are no fair comparison")


def _table(found: dict[str, list[tuple[float, float]]], sides: list[Ours | Theirs]) -> dict[str, float]:
    medians = {}
    for side in sides:
        rates, used = zip(*found[side.name], strict=True)
        medians[side.name] = statistics.median(rates)
        print(
            f"{side.name:<40} {side.parameters / 1e6:6.2f} M parameters  {medians[side.name]:7.1f} samples/s "
            f"({min(rates):.1f} to {max(rates):.1f})  {statistics.median(used):6.1f} ms of processor a sample"
        )
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lerobot-python", required=True, help="a Python that has lerobot 0.4")
    parser.add_argument(
        "--data", type=Path, help="a LeRobotDataset v3.0; default a few MetaWorld demonstrations"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[2, 1], help="of lerobot's samples; its default is 2"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=("no", "bf16"),
        default=["no", "bf16"],
        help="of lerobot's accelerate",
    )
    parser.add_argument("--workers", type=int, default=4, help="of lerobot's loader, whose default is 4")
    parser.add_argument("--threads", type=int, default=0, help="of each side's torch; 0 leaves its default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        data = given.data
        if data is None:
            data = root / "data"
            collect.main(
                ["--out", str(data), "--tasks", "reach", "drawer-close", "--episodes", "8", "--cameras", "corner4",
                 "--image-every", "1"]
            )  # fmt: skip
        ours = [Ours(data, root / f"{draws}", given, draws) for draws in (1, TrainArgs.draws)]
        theirs: list[Theirs] = []
        try:
            for frames in given.frames:
                theirs += [Theirs(data, root / "hub", given, frames, kind) for kind in given.precisions]
            _check_sizes(ours, theirs)
            about = theirs[0].about
            stubbed = ", ".join(about["declared"]) or "nothing"
            print(f"lerobot {about['lerobot']}, torch {about['torch']}; stubbed, and not called: {stubbed}")
            _compare(ours, theirs, given)
        finally:
            for side in (*ours, *theirs):
                side.close()


def _compare(ours: list[Ours], theirs: list[Theirs], given: argparse.Namespace) -> None:
    sides = [*ours, *theirs]
    found: dict[str, list[tuple[float, float]]] = {side.name: [] for side in sides}
    for side in sides:
        side.run(1)
    for _ in range(given.rounds):
        for side in sides:
            found[side.name].append(side.run(given.steps))
    medians = _table(found, sides)
    for frames in given.frames:
        best = max((side for side in theirs if side.frames == frames), key=lambda side: medians[side.name])
        for mine in ours:
            print(f"{mine.name} / {best.name}: {medians[mine.name] / medians[best.name]:.1f}x")


if __name__ == "__main__":
    main()
