"""`tinyvla import`: recordings of other projects become a LeRobotDataset, and what was dropped is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clients.flags import parse_flags
from clients.lerobot_v3 import finalize_dataset, is_complete, stage_episode
from clients.lerobot_v3.atomic import write_json_atomically
from clients.lerobot_v3.layout import STAGING_DIR
from clients.lerobot_v3.opening import load_json
from policy.errors import UsageError
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
    if check_resumable(args.out, settings, "import"):
        console.print(f"{args.out} is already complete")
        return
    reports: list[SessionReport] = []
    keys: list[str] = []
    with episode_bars(console) as progress:
        bar = progress.add_task("sessions", total=len(plan.sessions))
        for name, read in plan.sessions.items():
            report = _session(args.out, name, read)
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


def _session(out: Path, name: str, read: Reader) -> SessionReport:
    """Stage a session's episodes; its report, written last, says that all of them are there."""
    note = out / STAGING_DIR / f"{name}.session.json"
    if note.exists():
        return SessionReport.from_json(load_json(note))
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
    write_json_atomically(note, report.to_json())
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
