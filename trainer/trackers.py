"""Where a run's figures and pictures go besides its own files: TensorBoard always, Weights & Biases when asked."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from policy.errors import UsageError
from policy.spec import PolicySpec

_STEP = "optimizer_step"


class Tracker(Protocol):
    """Takes in what a run tells of itself."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures by name, after optimiser step `step`."""
        ...

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """uint8 [H, W, 3], RGB."""
        ...

    def close(self) -> None:
        """Put everything on disk, or send it."""
        ...


class TensorBoard:
    """Event files under `directory`."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def project_of(spec: PolicySpec) -> str:
    """`TinyVLA-Diffusion` or `TinyVLA-Regression`: runs whose losses mean the same are charted together."""
    return f"TinyVLA-{spec.head.capitalize()}"


def run_name_of(spec: PolicySpec, started: time.struct_time) -> str:
    """`train_diffusion_sensor_MMDD_HHMM`; without `sensor` for a policy that has none."""
    return "_".join(
        ["train", spec.head, *(["sensor"] if spec.sensors else []), time.strftime("%m%d_%H%M", started)]
    )


class WeightsAndBiases:
    """One run there; a training run that is resumed goes on in the same one.

    `WANDB_MODE=offline` keeps it under `directory`/wandb, from where `wandb sync` sends it.

    Args:
        directory: the run directory.
        config: the settings of the run, JSON-able.

    Raises:
        UsageError: nobody is logged in, or the service does not answer.
    """

    def __init__(self, directory: Path, spec: PolicySpec, config: dict[str, Any]) -> None:
        import wandb

        note = directory / "wandb" / "run-id"
        note.parent.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            note.write_text(secrets.token_hex(4))
        try:
            self._run = wandb.init(
                project=project_of(spec), name=run_name_of(spec, time.localtime()), dir=str(directory),
                id=note.read_text().strip(), resume="allow", config=config,
                settings=wandb.Settings(console="off", disable_code=True, disable_git=True),
            )  # fmt: skip
        except wandb.Error as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"--wandb: {reason}; log in with `wandb login`, or keep the run here with WANDB_MODE=offline"
            ) from None
        self._picture = wandb.Image
        # An axis of our own: the service's step counter only goes up, and a resumed run repeats some steps.
        self._run.define_metric(_STEP, hidden=True)
        self._run.define_metric("*", step_metric=_STEP)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, _STEP: step})

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        self._run.log({name: self._picture(image), _STEP: step})

    def close(self) -> None:
        self._run.finish()
