"""The layouts that can be imported: what each finds in a directory, says of the dataset and makes of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from clients.lerobot_v3 import DatasetFacts, EpisodeArrays, SensorFacts
from clients.robots import metaworld_sim, needle_rig_contract
from policy.errors import UsageError
from trainer.importing import recv_all, rig_episodes
from trainer.importing.report import SessionReport
from trainer.importing.rig_frames import episodes_of_session
from trainer.importing.rig_instants import RigSettings
from trainer.importing.sessions import find_directories, fingerprint, named
from trainer.importing.settings import ImportArgs, LayoutName, check_flags
from trainer.importing.short_metaworld import ShortSettings, find_tasks, task_episodes

_RIG: dict[LayoutName, ModuleType] = {"recv-all": recv_all, "episodes": rig_episodes}
Reader = Callable[[SessionReport], Iterator[EpisodeArrays]]


@dataclass(frozen=True)
class Import:
    """What there is to do."""

    sessions: Mapping[str, Reader]  # by name, in the order of the dataset
    sources: Mapping[str, str]  # fingerprint of each session's files
    settings: Mapping[str, Any]  # what else the dataset follows from, JSON-able
    facts: DatasetFacts


def plan_import(args: ImportArgs) -> Import:
    """Find the sessions of `args.source`.

    Raises:
        UsageError: nothing there that can be imported, or a flag that cannot work.
    """
    if not args.source.is_dir():
        raise UsageError(f"{args.source}: no such directory")
    try:
        found = {layout: _find(layout, args.source) for layout in _names(args)}
    except OSError as error:
        raise UsageError(f"{args.source}: cannot be searched ({error})") from None
    layouts = [layout for layout, sessions in found.items() if sessions]
    if not layouts:
        wanted = (
            "recv_all_*, episode_* or short-MetaWorld's img_only" if args.layout == "auto" else args.layout
        )
        raise UsageError(f"{args.source}: nothing of {wanted} in it, nor three levels below")
    if len(layouts) > 1:
        raise UsageError(
            f"{args.source} holds several layouts; choose one with --layout {' | '.join(layouts)}"
        )
    layout = layouts[0]
    check_flags(args, layout)
    return (_short_metaworld if layout == "short-metaworld" else partial(_rig, layout))(args, found[layout])


def _names(args: ImportArgs) -> tuple[LayoutName, ...]:
    return ("recv-all", "episodes", "short-metaworld") if args.layout == "auto" else (args.layout,)


def _find(layout: LayoutName, source: Path) -> dict[str, Any]:
    """Session -> where it is."""
    if layout == "short-metaworld":
        return find_tasks(source)
    return named(source, find_directories(source, _RIG[layout].is_session))


def _rig(layout: LayoutName, args: ImportArgs, sessions: Mapping[str, Path]) -> Import:
    settings = RigSettings(
        fps=args.resolved_fps(layout),
        tolerance=args.tolerance_ms / 1000,
        view_tolerance=args.view_tolerance_ms / 1000,
        size=args.resolved_size(layout),
        quality=args.quality,
        instruction=args.instruction,
        camera_offset=args.camera_offset,
        sensor_offset=args.sensor_offset,
        min_frames=args.min_frames,
    )
    sources = {name: fingerprint(path) for name, path in sessions.items()}
    told = {"layout": layout, "views": list(args.views), "sessions": list(sessions), **_jsonable(settings)}
    sensor = needle_rig_contract.sensor_spec()
    facts = DatasetFacts(
        cameras=dict.fromkeys(args.views, settings.size),
        state_names=needle_rig_contract.STATE_NAMES,
        action_names=needle_rig_contract.ACTION_NAMES,
        fps=settings.fps,
        control_rate_hz=needle_rig_contract.CONTROL_RATE_HZ,
        actions_per_frame=settings.actions_per_frame,
        robot_type="needle-rig",
        free={
            "import": told,
            "import_sources": sources,
            "sensors": {
                sensor.name: SensorFacts(
                    sensor.channels, sensor.rate_hz, sensor.window, sensor.units
                ).to_json()
            },
        },
    )

    def read(directory: Path, report: SessionReport) -> Iterator[EpisodeArrays]:
        recording = _RIG[layout].read_session(directory, args.views, report)
        yield from episodes_of_session(recording, settings, report)

    return Import({name: partial(read, path) for name, path in sessions.items()}, sources, told, facts)


def _short_metaworld(args: ImportArgs, tasks: Mapping[str, tuple[Path, Path]]) -> Import:
    size = args.resolved_size("short-metaworld")
    settings = ShortSettings(args.camera, size, args.quality, args.min_frames)
    fps = args.resolved_fps("short-metaworld")
    sources = {name: fingerprint(*places) for name, places in tasks.items()}
    told = {"layout": "short-metaworld", "fps": fps, "sessions": list(tasks), **_jsonable(settings)}
    facts = DatasetFacts(
        cameras={args.camera: size},
        state_names=metaworld_sim.STATE_NAMES,
        action_names=metaworld_sim.ACTION_NAMES,
        environment_state_names=metaworld_sim.ENVIRONMENT_STATE_NAMES,
        fps=fps,
        control_rate_hz=fps,
        robot_type="metaworld",
        free={"import": told, "import_sources": sources},
    )

    def read(name: str, report: SessionReport) -> Iterator[EpisodeArrays]:
        yield from task_episodes(name, *tasks[name], settings, report)

    return Import({name: partial(read, name) for name in tasks}, sources, told, facts)


def _jsonable(settings: Any) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in vars(settings).items()
    }
