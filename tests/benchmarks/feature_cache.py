"""What a feature cache saves: epochs through a frozen backbone with it and without, in turn.

    python -m tests.benchmarks.feature_cache [--layers 8] [--width 256] [--epochs 3]

The backbone is a random Qwen2.5-VL, far smaller than a real one, so that this runs without a GPU or a download.
Seconds are of this process alone, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from clients.lerobot_v3 import DatasetFacts, EpisodeArrays, finalize_dataset, stage_episode
from tests.tiny_backbones import write_backbone
from trainer.backbone_choice import finish_backbone
from trainer.run_log import RunLog
from trainer.settings import TrainArgs
from trainer.train import Trainer

_SIZE = 64


def write_dataset(root: Path, episodes: int, frames: int) -> Path:
    """Noise pictures: every frame is another one, which is all that matters to a cache."""
    import io

    from PIL import Image

    rng = np.random.default_rng(0)

    def encoded() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (_SIZE, _SIZE, 3), np.uint8)).save(
            buffer, "PNG", compress_level=1
        )
        return buffer.getvalue()

    for number in range(episodes):
        stage_episode(
            root,
            f"episode-{number:06d}",
            EpisodeArrays(
                task="reach",
                images={"front": [encoded() for _ in range(frames)]},
                state=rng.random((frames, 2), np.float32),
                action=rng.random((frames, 2), np.float32),
                environment_state=None,
                extra={},
            ),
        )
    facts = DatasetFacts(
        cameras={"front": (_SIZE, _SIZE)}, state_names=("x", "y"), action_names=("dx", "dy"), fps=20.0,
        control_rate_hz=20.0, actions_per_frame=1,
    )  # fmt: skip
    finalize_dataset(root, [f"episode-{number:06d}" for number in range(episodes)], facts)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3, help="measured epochs of each kind")
    parser.add_argument("--frames", type=int, default=32, help="frames of each of two training episodes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        data = write_dataset(root / "data", 2, given.frames)
        backbone = write_backbone(
            root / "backbone", layers=given.layers, hidden_size=given.width, intermediate_size=4 * given.width,
            num_attention_heads=given.width // 8,
        )  # fmt: skip
        fields = {
            "dataset_dir": (data,), "epochs": 1000, "batch_size": 8, "lr": 1e-4, "horizon": 8, "max_prefix": 0,
            "shift": 0, "val_split": 0.0, "backbone": str(backbone), "device": "cpu", "save_every": 0, "draws": 1,
        }  # fmt: skip
        with redirect_stdout(StringIO()):
            plain = Trainer(TrainArgs(out=root / "plain", **fields))
            cached = Trainer(TrainArgs(out=root / "cached", feature_cache=root / "features", **fields))
        # Both look through one backbone, which has one cache or none.
        shared = plain.network.encoder.backbone
        store = shared.store
        seconds: dict[str, list[float]] = {"first with the cache": [], "without": [], "with": []}
        with redirect_stdout(StringIO()), RunLog(plain.args, plain.spec) as log:
            for epoch in range(given.epochs + 1):
                for name, trainer in (("without", plain), ("with", cached)):
                    shared.store = store if trainer is cached else None
                    started = time.process_time()
                    trainer.train_epoch(epoch, log)
                    finish_backbone(trainer.network)
                    taken = time.process_time() - started
                    if epoch:
                        seconds[name].append(taken)
                    elif trainer is cached:
                        seconds["first with the cache"].append(taken)
        size = sum(path.stat().st_size for path in (root / "features").glob("*.safetensors")) / 1e6
        million = shared.parameters / 1e6
        print(
            f"{len(plain.data.train)} samples of one {_SIZE}-pixel view, backbone of {million:.1f} M parameters, cpu"
        )
        for name, taken in seconds.items():
            print(
                f"epoch {name:<22} {statistics.median(taken):7.2f} s of processor time  ({len(taken)} measured)"
            )
        ratio = statistics.median(seconds["without"]) / statistics.median(seconds["with"])
        print(f"ratio {ratio:.1f}; {size:.1f} MB on disk")


if __name__ == "__main__":
    main()
