"""`tinyvla rig-sim`: the simulated needle rig as a process of its own, speaking the real rig's wire."""

from __future__ import annotations

import dataclasses
import signal
import threading
from pathlib import Path
from typing import Annotated

import tyro

from clients.rig_sim.faults import Faults
from clients.rig_sim.live import LiveRig
from clients.rig_sim.parameters import DEFAULT_FILE, RigParameters, load_parameters
from clients.rig_sim.rig_sockets import RigAddresses, RigSockets
from clients.robots.needle_rig_contract import VIEWS
from policy.errors import UsageError
from service.flags import parse_flags


@dataclasses.dataclass(frozen=True)
class RigSimArgs:
    """Simulate the needle rig in real time until interrupted.

    It speaks the rig's own wire (docs/needle-rig.md): what drives it drives the real one. `start` with a seed lays out
    the scene of that seed.
    """

    parameters: Path = DEFAULT_FILE
    """Every number of the simulation, with its source."""
    size: str | None = None
    """Pixels of a picture, such as 128x72; default as in --parameters."""
    host: str = "127.0.0.1"
    """Address of the rig: state is published and commands are taken here."""
    receiver: str = "127.0.0.1"
    """Machine that cameras and sensor are sent to."""
    camera_port: int = RigAddresses.camera_port
    state_port: int = RigAddresses.state_port
    sensor_port: int = RigAddresses.sensor_port
    command_port: int = RigAddresses.command_port
    seed: int = 0
    """Scene before the first start that names one."""
    clock_offset: float = 0.0
    """Seconds by which the rig's clock is ahead of this machine's."""
    loss: float = 0.0
    """Share of every stream's messages that get lost on purpose."""
    lost_view: str | None = None
    """A view that falls silent on purpose, such as view3."""
    lost_after: float = 0.0
    """With --lost-view: from this second of every episode on."""
    sensor_silence: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="FROM TO")] = None
    """Seconds of every episode between which the sensor says nothing."""


def rig_parameters(args: RigSimArgs) -> RigParameters:
    """The parameters with the pictures' size that was asked for.

    Raises:
        UsageError: an unreadable file or size.
    """
    parameters = load_parameters(args.parameters)
    if args.size is None:
        return parameters
    width, separator, height = args.size.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and 1 <= int(width) <= 4096):
        raise UsageError(f"--size {args.size}: expected WIDTHxHEIGHT, such as 128x72")
    if not 1 <= int(height) <= 4096:
        raise UsageError(f"--size {args.size}: expected 1 ... 4096 pixels")
    cameras = dataclasses.replace(parameters.cameras, width=int(width), height=int(height))
    return dataclasses.replace(parameters, cameras=cameras)


def _addresses(args: RigSimArgs) -> RigAddresses:
    # The rig binds two of its ports, where 0 takes a free one; to the others it sends.
    for name, lowest in (("camera", 1), ("state", 0), ("sensor", 1), ("command", 0)):
        port = getattr(args, f"{name}_port")
        if not lowest <= port <= 65535:
            raise UsageError(f"--{name}-port {port}: expected {lowest} ... 65535")
    return RigAddresses(
        args.host, args.receiver, args.camera_port, args.state_port, args.sensor_port, args.command_port
    )


def _faults(args: RigSimArgs) -> Faults:
    if not 0 <= args.loss <= 1:
        raise UsageError(f"--loss {args.loss:g}: expected 0 ... 1")
    if args.lost_view is not None and args.lost_view not in VIEWS:
        raise UsageError(f"--lost-view {args.lost_view}: there are {', '.join(VIEWS)}")
    return Faults(args.loss, args.lost_view, args.lost_after, args.sensor_silence, args.clock_offset)


def main(argv: list[str]) -> int:
    """Entry of `tinyvla rig-sim`."""
    args = parse_flags(RigSimArgs, argv, "tinyvla rig-sim")
    if not 0 <= args.seed < 2**63:
        raise UsageError(f"--seed {args.seed}: expected 0 ... 2^63 - 1")
    parameters, faults = rig_parameters(args), _faults(args)
    sockets = RigSockets(_addresses(args))
    stop = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, lambda *_: stop.set())
    try:
        rig = LiveRig(parameters, sockets, faults, seed=args.seed, log=lambda line: print(line, flush=True))
        print(
            f"needle rig (simulated): state on {args.host}:{sockets.state_port}, commands on "
            f"{args.host}:{sockets.command_port}, cameras to {args.receiver}:{args.camera_port}, "
            f"sensor to {args.receiver}:{args.sensor_port}",
            flush=True,
        )
        rig.run(stop)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        print(
            "sent and received: " + ", ".join(f"{n} {what}" for what, n in sockets.counts.items()), flush=True
        )
        sockets.close()
    return 0
