"""`tinyvla diagnose WHAT PATH`: measurements, a verdict, the likely cause and the remedy; exit code 1 for a fault."""

from __future__ import annotations

import importlib

from rich.console import Console

from policy.errors import UsageError
from service.flags import parse_flags
from trainer.diagnosis.findings import Diagnosis, show
from trainer.diagnosis.memory import MemoryArgs
from trainer.diagnosis.subject import SubjectArgs, open_subject

# name -> (module with `diagnose(subject) -> Diagnosis`, its flags, what it answers)
SUBCOMMANDS: dict[str, tuple[str, type[SubjectArgs], str]] = {
    "loss-explosion": (
        "loss_explosion",
        SubjectArgs,
        "does training start well, and survive its learning rate?",
    ),
    "loss-values": (
        "loss_values",
        SubjectArgs,
        "what does a loss of this size mean, and is the logged one true?",
    ),
    "head": ("head", SubjectArgs, "does everything the policy perceives reach its actions, and is it used?"),
    "mse": ("mse", SubjectArgs, "where does the error sit: which action, which place in the chunk?"),
    "schedule": ("schedule", SubjectArgs, "does the noise schedule fit these actions, and the clip too?"),
    "data": ("data", SubjectArgs, "statistics, pairing, order, colours and leaks of the data"),
    "memory": ("memory", MemoryArgs, "what does a training step take, and which batch fits a card?"),
}


def _usage() -> str:
    lines = [f"  {name:<15} {what}" for name, (_, _, what) in SUBCOMMANDS.items()]
    return (
        "usage: tinyvla diagnose WHAT PATH [--help] ...\n\n"
        "PATH is a run directory, a checkpoint or a dataset. Exit code 0: no fault found, 1: a fault.\n\n"
    ) + "\n".join(lines)


def run(what: str, given: SubjectArgs) -> Diagnosis:
    """One subcommand on an opened subject."""
    module = importlib.import_module(f"trainer.diagnosis.{SUBCOMMANDS[what][0]}")
    return module.diagnose(open_subject(given))


def main(argv: list[str]) -> int:
    """Entry of `tinyvla diagnose`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    what = argv[0]
    if what not in SUBCOMMANDS:
        raise UsageError(f"no subcommand {what!r}; there are: {', '.join(SUBCOMMANDS)}")
    _, kind, answers = SUBCOMMANDS[what]
    given = parse_flags(kind, argv[1:], f"tinyvla diagnose {what}", description=answers)
    found = run(what, given)
    show(found, Console())
    return 1 if found.faults else 0
