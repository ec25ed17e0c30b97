"""lerobot's half of `against_lerobot.py`: its diffusion policy, trained step by step as its own training script does.

Runs under a Python that has lerobot 0.4 and needs nothing of this project. Tells what it is in one line of JSON, then
trains as many steps as each line it reads asks for, and answers each with the seconds they took.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch


def declare_missing_operators() -> list[str]:
    """Detection operators without which torchvision does not import, where its compiled library cannot be loaded.

    Wheels of torchvision for CUDA do not load beside a torch for processors. Declared is all they are: nothing that
    is trained here calls them, and whoever did would get an error.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        sys.exit("lerobot's diffusion policy needs torchvision")
    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        names = ["nms", "qnms"]
        for name in names:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        return names
    return []


_KEPT: list[Any] = []  # declarations end with the object that made them


class Training:
    """What `lerobot_train.py` sets up, with the camera and the state as inputs."""

    def __init__(self, given: argparse.Namespace) -> None:
        from accelerate import Accelerator
        from lerobot.configs.default import DatasetConfig
        from lerobot.configs.train import TrainPipelineConfig
        from lerobot.datasets.factory import make_dataset
        from lerobot.datasets.sampler import EpisodeAwareSampler
        from lerobot.datasets.utils import cycle, dataset_to_policy_features
        from lerobot.optim.factory import make_optimizer_and_scheduler
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
        from lerobot.policies.factory import make_policy, make_pre_post_processors
        from lerobot.utils.logging_utils import AverageMeter, MetricsTracker

        policy_config = DiffusionConfig(
            n_obs_steps=given.frames, horizon=given.horizon, down_dims=tuple(given.down_dims), device="cpu",
            push_to_hub=False,
        )  # fmt: skip
        config = TrainPipelineConfig(
            dataset=DatasetConfig(repo_id="local", root=given.data), policy=policy_config,
            batch_size=given.batch, num_workers=given.workers,
            optimizer=policy_config.get_optimizer_preset(), scheduler=policy_config.get_scheduler_preset(),
        )  # fmt: skip
        self.batch, self.clip = given.batch, config.optimizer.grad_clip_norm
        self.accelerator = Accelerator(
            step_scheduler_with_optimizer=False, cpu=True, mixed_precision=given.precision
        )
        dataset = make_dataset(config)
        features = dataset_to_policy_features(dataset.meta.features)
        policy_config.input_features = {
            name: feature
            for name, feature in features.items()
            if name == "observation.state" or name.startswith("observation.images.")
        }
        policy = make_policy(policy_config, ds_meta=dataset.meta)
        self.parameters = sum(p.numel() for p in policy.parameters())
        self.prepare, _ = make_pre_post_processors(policy_config, dataset_stats=dataset.meta.stats)
        optimizer, scheduler = make_optimizer_and_scheduler(config, policy)
        episodes = dataset.meta.episodes
        sampler = EpisodeAwareSampler(
            episodes["dataset_from_index"], episodes["dataset_to_index"],
            drop_n_last_frames=policy_config.drop_n_last_frames, shuffle=True,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(
            dataset, num_workers=given.workers, batch_size=given.batch, sampler=sampler,
            prefetch_factor=2 if given.workers else None,
        )  # fmt: skip
        self.policy, self.optimizer, loader, self.scheduler = self.accelerator.prepare(
            policy, optimizer, loader, scheduler
        )
        self.batches = cycle(loader)
        meters = {name: AverageMeter(name) for name in ("loss", "grad_norm", "lr", "update_s")}
        self.metrics = MetricsTracker(given.batch, len(dataset), dataset.num_episodes, meters)

    def run(self, steps: int) -> dict[str, float]:
        """Train `steps` steps; samples trained on, seconds, and seconds of those that waited for data."""
        from lerobot.scripts.lerobot_train import update_policy

        samples, waited, started = 0, 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = self.prepare(next(self.batches))
            waited += time.perf_counter() - asked
            samples += len(batch["action"])
            update_policy(
                self.metrics, self.policy, batch, self.optimizer, self.clip, accelerator=self.accelerator,
                lr_scheduler=self.scheduler,
            )  # fmt: skip
        return {"samples": samples, "seconds": time.perf_counter() - started, "waited": waited}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--frames", type=int, required=True, help="observation steps of each sample")
    parser.add_argument("--down-dims", type=int, nargs="+", required=True)
    parser.add_argument("--workers", type=int, required=True, help="processes of its dataloader")
    parser.add_argument("--precision", choices=("no", "bf16"), required=True)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever lerobot prints is no answer

    def answer(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=answers, flush=True)

    if given.threads:
        torch.set_num_threads(given.threads)
    declared = declare_missing_operators()
    import lerobot

    training = Training(given)
    answer(
        {
            "parameters": training.parameters,
            "lerobot": lerobot.__version__,
            "torch": torch.__version__,
            "declared": declared,
        }
    )
    for line in sys.stdin:
        answer(training.run(int(line)))


if __name__ == "__main__":
    main()
