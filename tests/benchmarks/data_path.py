"""Whether training ever waits for its data: samples a second prepared, against samples a second trained on.

.venv/bin/python tests/benchmarks/data_path.py DATASET
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from trainer.settings import TrainArgs
from trainer.train import Trainer

BATCH, BATCHES = 64, 30


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        args = TrainArgs(
            dataset_dir=(Path(sys.argv[1]),),
            out=Path(out),
            batch_size=BATCH,
            draws=2,
            epochs=1,
            lr=1e-4,
            save_every=0,
        )
        trainer = Trainer(args)
        start = time.perf_counter()
        for number in range(BATCHES):
            trainer.prepared(number)
        alone = BATCHES * BATCH / (time.perf_counter() - start)
        trainer.per_epoch = BATCHES
        trained = trainer.train_epoch(0)
    print(
        f"data path alone: {alone:.0f} samples/s; training, data path included: {trained:.0f} samples/s; "
        f"ratio {alone / trained:.1f}x"
    )


if __name__ == "__main__":
    main()
