"""The console command: one line per subcommand; each is imported only when it is asked for."""

from __future__ import annotations

import errno
import importlib
import sys

# name -> (module with a `main(argv) -> int | None`, what it does)
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("service.serve", "serve policy bundles over HTTP and ZeroMQ"),
    "keys": ("service.keys", "make the keys of an encrypted ZeroMQ door"),
    "bench": ("clients.bench.command", "measure latency and throughput of a server's doors: bench serve"),
    "rig-sim": ("clients.rig_sim.command", "simulate the needle rig behind its own wire, in real time"),
    "check-robot": ("clients.robots.check", "check a robot's driver before a policy drives it"),
    "replay": ("clients.replay", "play a recording back through the receiver and compare the actions"),
    "recover": ("clients.recording.recover", "finish a --save-data recording that was cut off"),
    "collect": ("trainer.collect", "record demonstrations from MetaWorld's scripted experts"),
    "import": ("trainer.import_command", "turn recordings of other projects into a dataset"),
    "train": ("trainer.train", "train a diffusion or regression policy on a dataset"),
    "diagnose": ("trainer.diagnose", "find what is wrong with a run, a checkpoint or a dataset"),
    "export": ("trainer.export", "turn a checkpoint into a policy bundle (ONNX, TorchScript)"),
    "evaluate": ("trainer.evaluate", "measure success in closed loop, with intervals"),
    "compare": ("trainer.compare", "compare two policies on the same episodes, with paired tests"),
    "calibrate": ("trainer.calibrate", "fit success in closed loop against validation loss"),
    "sweep": ("trainer.sweep", "measure what inference delay costs each chunk policy"),
    "selftest": ("trainer.selftest", "check that this installation computes what it should"),
}


_OWN = ("policy", "service", "clients", "trainer")
_INSTALL = "pip install -c constraints.txt -e '.[cpu,sim,train]'"
# What is wrong with a place that was given, and no fault of the program.
_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT,
)  # fmt: skip


def _refused(name: str, why: str) -> int:
    print(f"tinyvla {name}: {why}", file=sys.stderr)
    return 2


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "usage: tinyvla COMMAND [--help] ...\n\n" + "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; bad input is one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"tinyvla: no command {name!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2

    from policy.errors import TinyVLAError, UsageError

    try:
        return importlib.import_module(COMMANDS[name][0]).main(rest) or 0
    except (UsageError, TinyVLAError) as error:
        return _refused(name, str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN:
            raise
        return _refused(name, f"{missing} is not installed; in the repository: {_INSTALL}")
    except OSError as error:
        if error.filename is None or error.errno not in _PLACE:
            raise
        return _refused(name, f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
