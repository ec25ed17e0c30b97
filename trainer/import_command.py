"""`tinyvla import`: recordings of other projects become a LeRobotDataset, and what was dropped is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from clients.lerobot_v3 import finalize_dataset, is_complete, stage_episode
from clients.lerobot_v3.atomic import write_json_atomically
from clients.lerobot_v3.layout import INFO_PATH, STAGING_DIR
from clients.lerobot_v3.opening import load_json
from policy.errors import UsageError
from service.flags import parse_flags
from trainer.collection.resuming import check_resumable
from trainer.importing.layouts import Reader, plan_import
from trainer.importing.report import REPORT_FILE, LeftOut, SessionReport, print_report, whole_report
from trainer.importing.settings import ImportArgs
from trainer.progress_bars import episode_bars


def import_dataset(args: ImportArgs, console: Console | None = None) -> None:
    """Fill `args.out` with a dataset; one that was cut off goes on with the session it was at.

    Raises:
        UsageError: nothing to import, nothing of use in it, or a directory in use for something else.
    """
    console = console or Console()
    plan = plan_import(args)
    settings = dict(plan.settings)
    complete = check_resumable(args.out, settings, "import")
    _check_sources(args.out, plan.sources)
    if complete:
        console.print(f"{args.out} is already complete")
        return
    reports: list[SessionReport] = []
    keys: list[str] = []
    with episode_bars(console) as progress:
        bar = progress.add_task("sessions", total=len(plan.sessions))
        for name, read in plan.sessions.items():
            report = _session(args.out, name, read, plan.sources[name])
            reports.append(report)
            keys += _keys(report)
            progress.advance(bar)
    print_report(console, reports)
    if not keys:
        _clean(args.out)
        why = next(
            (one.left_out for one in reports if one.left_out), "no stretch without a gap is long enough"
        )
        raise UsageError(f"{args.source}: nothing of it can be used; {reports[0].session}: {why}")
    write_json_atomically(args.out / REPORT_FILE, whole_report(reports, settings))
    finalize_dataset(args.out, keys, plan.facts)
    _clean(args.out)
    console.print(f"{len(keys)} episodes in {args.out}; what was dropped is in {REPORT_FILE}")


def _check_sources(out: Path, sources: Mapping[str, str]) -> None:
    """Raise UsageError where a session that `out` already holds was read from other files than are there now."""
    if is_complete(out):
        read = load_json(out / INFO_PATH)["tinyvla"].get("import_sources", {})
    else:
        notes = {name: _note(out, name) for name in sources}
        read = {name: load_json(note).get("source") for name, note in notes.items() if note.exists()}
    for name, source in sources.items():
        if read.get(name) not in (None, source):
            raise UsageError(
                f"{out} holds {name} made from other files than are there now; give --out an empty directory"
            )


def _note(out: Path, session: str) -> Path:
    """Where it says that all of a session is staged."""
    return out / STAGING_DIR / f"{session}.session.json"


def _session(out: Path, name: str, read: Reader, source: str) -> SessionReport:
    """Stage a session's episodes; its report, written last, says that all of them are there."""
    note = _note(out, name)
    if note.exists():
        noted = load_json(note)
        noted.pop("source", None)
        return SessionReport.from_json(noted)
    report = SessionReport(name)
    try:
        for number, episode in enumerate(read(report)):
            try:
                stage_episode(out, _key(name, number), episode)
            except ValueError as error:
                raise LeftOut(str(error)) from None
    except (LeftOut, OSError) as why:
        # Not noted: what is mended in the source is read when the command is given again.
        return SessionReport(
            name, found=report.found, dropped=report.dropped, notes=report.notes, left_out=str(why)
        )
    write_json_atomically(note, {**report.to_json(), "source": source})
    return report


def _key(session: str, number: int) -> str:
    return f"{session}-{number:06d}"


def _keys(report: SessionReport) -> list[str]:
    return [_key(report.session, number) for number in range(report.episodes)]


def _clean(out: Path) -> None:
    """Drop the notes of an import that has come to its end."""
    staging = out / STAGING_DIR
    for path in staging.glob("*"):
        path.unlink()
    staging.rmdir()
    if not is_complete(out) and not any(out.iterdir()):
        out.rmdir()


def main(argv: Sequence[str]) -> int:
    """Entry of `tinyvla import`."""
    import_dataset(parse_flags(ImportArgs, argv, "tinyvla import"))
    return 0
