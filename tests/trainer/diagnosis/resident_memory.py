"""What the operating system says that training takes, in a process of its own: `python FILE DATASET BATCH...`.

Prints a JSON object a batch size: megabytes predicted, and the resident set's growth over training on one sample.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from trainer.diagnosis.memory_measured import two_steps
from trainer.diagnosis.memory_model import MB, predict
from trainer.diagnosis.subject import SubjectArgs, open_subject


def resident(key: str) -> float:
    """VmRSS, what is resident now, or VmHWM, the most so far; `getrusage` would count the parent's before the start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / MB


def main() -> None:
    torch.set_num_threads(1)
    subject = open_subject(SubjectArgs(Path(sys.argv[1]), device="cpu"))
    two_steps(subject, 1, bf16=False)  # loads code, and lets the libraries set up
    before = resident("VmRSS")
    most = {}
    for batch in map(int, sys.argv[2:]):  # ascending: the system tells the most so far
        two_steps(subject, batch, bf16=False)
        most[batch] = resident("VmHWM") - before
    for batch, found in most.items():  # only now: predicting loads code too
        predicted = predict(subject, batch, bf16=False).peak
        print(json.dumps({"batch": batch, "predicted": predicted, "resident": found}), flush=True)


if __name__ == "__main__":
    main()
