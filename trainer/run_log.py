"""What a run leaves besides its checkpoints: log.txt for people, epochs.jsonl for programs, and the trackers."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

import numpy as np

from policy.spec import PolicySpec
from trainer.epoch_log import EPOCHS, append_epoch
from trainer.epoch_report import EpochReport
from trainer.settings import TrainArgs, arguments_of
from trainer.trackers import TensorBoard, Tracker, WeightsAndBiases


class RunLog:
    """`with RunLog(args, spec) as log:` opens everything under the run directory, and appends.

    Args:
        silent: say and write nothing, as every process but the first.
    """

    def __init__(self, args: TrainArgs, spec: PolicySpec, silent: bool = False) -> None:
        self._directory = args.out
        self._trackers: list[Tracker] = []
        self._text: TextIO | None = None
        if silent:
            return
        args.out.mkdir(parents=True, exist_ok=True)
        self._trackers.append(TensorBoard(args.out / "tensorboard"))
        if args.wandb:
            self._trackers.append(WeightsAndBiases(args.out, spec, arguments_of(args)))
        self._text = (args.out / "log.txt").open("a")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers:
            tracker.close()
        if self._text is not None:
            self._text.close()

    def say(self, line: str) -> None:
        """One line on the console and in log.txt."""
        if self._text is not None:
            print(line, flush=True)
            print(line, file=self._text, flush=True)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures for the trackers."""
        for tracker in self._trackers:
            tracker.scalars(values, step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """uint8 [H, W, 3] for the trackers."""
        for tracker in self._trackers:
            tracker.picture(name, image, step)

    def epoch(self, report: EpochReport, step: int) -> None:
        """An epoch's figures, everywhere."""
        if self._text is not None:
            append_epoch(self._directory / EPOCHS, report)
        self.scalars(report.scalars(), step)
        self.say(report.line())
