"""What a loss means: curves are found where there are some, bands hold the truth, nothing is said beyond them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from clients.robots import metaworld_sim
from policy.errors import UsageError
from policy.null import null_spec
from policy.spec import InstructionSpec, PolicySpec, StateSpec
from trainer import calibrate as module
from trainer.calibrate import CalibrateArgs, calibrate, spread
from trainer.calibration.checkpoints import Kept, kept_checkpoints
from trainer.calibration.curve import Curve, Kind, Point, read_calibration, write_calibration
from trainer.calibration.fit import Counts, bootstrap_band, fit_logistic, predict_left_out, scatter
from trainer.evaluation.summary import Row
from trainer.train import Trainer

LOSSES = np.geomspace(0.01, 0.5, 12)
EPISODES = np.full(12, 160.0)
DATA = ("5e1f",)  # where a SHA-256 stands
HELD_OUT = (0.05, 0)


def truth(loss: np.ndarray) -> np.ndarray:
    """Success that falls with the loss from 90 to 5 %."""
    return 1 / (1 + np.exp(1.4 * (np.log(loss) - np.log(0.06))))


def drawn(seed: int, by: float = 0.0) -> Counts:
    """Episodes of checkpoints that are off the curve by as much, in log odds."""
    rng = np.random.default_rng(seed)
    odds = truth(LOSSES) / (1 - truth(LOSSES)) * np.exp(rng.normal(0, by, len(LOSSES)))
    return Counts(LOSSES, rng.binomial(160, odds / (1 + odds)).astype(float), EPISODES)


def metaworld_spec(*tasks: str, head: str = "diffusion") -> PolicySpec:
    spec = null_spec().model_copy(
        update={
            "state": StateSpec(names=metaworld_sim.STATE_NAMES, units=metaworld_sim.STATE_UNITS),
            "instruction": InstructionSpec(by_task={task: (f"do {task}",) for task in tasks}),
        }
    )
    return spec if head == "diffusion" else spec.model_copy(update={"head": head, "sampler": None})


def test_the_fit_finds_the_curve_that_the_episodes_were_drawn_from():
    fit = fit_logistic(Counts(LOSSES, 160 * truth(LOSSES), EPISODES))
    np.testing.assert_allclose(fit.rate(LOSSES), truth(LOSSES), atol=0.01)


@pytest.mark.parametrize("checkpoints", [3, 5, 7])
def test_checkpoints_of_one_loss_say_the_same_of_every_other(checkpoints):
    """As a resample may hold one checkpoint again and again."""
    for loss in np.geomspace(0.01, 0.5, 100):
        alike = Counts(np.full(checkpoints, loss), np.full(checkpoints, 18.0), np.full(checkpoints, 20.0))
        said = fit_logistic(alike).rate(np.array([0.9, 1.0, 1.1]) * loss)
        np.testing.assert_allclose(said, 0.9, atol=0.01)


def test_success_never_rises_with_the_loss():
    """Were the worst checkpoints to succeed most, a flat line is all that is said."""
    successes = drawn(0).successes
    fit = fit_logistic(Counts(LOSSES, successes[::-1], EPISODES))
    assert fit.slope == 0
    np.testing.assert_allclose(fit.rate(LOSSES), successes.sum() / EPISODES.sum(), atol=0.005)


def test_all_successes_or_none_still_give_a_rate_below_one_and_above_zero():
    for share in (0.0, 1.0):
        rate = fit_logistic(Counts(LOSSES, share * EPISODES, EPISODES)).rate(LOSSES)
        assert np.all((rate > 0) & (rate < 1))
        np.testing.assert_allclose(rate, share, atol=0.05)


def test_checkpoints_that_differ_by_more_than_chance_are_seen_to():
    for by in (0.0, 0.8):
        found = [scatter(drawn(seed, by), fit_logistic(drawn(seed, by))) for seed in range(20)]
        assert np.mean(found) == pytest.approx(by, abs=0.15)


@pytest.mark.parametrize("by", [0.0, 0.8])
def test_the_interval_holds_nearly_every_checkpoint_of_its_loss(by):
    held, width = [], []
    for seed in range(10):
        band = bootstrap_band(drawn(seed, by), seed)
        assert np.all(np.diff(band.rate) <= 0)
        assert np.all((band.low <= band.rate) & (band.rate <= band.high))
        offsets = np.exp(np.random.default_rng(seed).normal(0, by, (50, 1)))
        odds = truth(band.loss) / (1 - truth(band.loss)) * offsets
        held.append((band.low <= odds / (1 + odds)) & (odds / (1 + odds) <= band.high))
        width.append(np.mean(band.high - band.low))
    assert 0.92 < np.mean(held) <= 1
    assert np.mean(width) < (0.6 if by else 0.15)  # and it says something


def test_a_loss_that_predicts_is_told_from_one_that_does_not():
    alone = ["run"] * len(LOSSES)
    telling = predict_left_out(drawn(1), alone)
    assert telling.left_out == "checkpoint"
    assert telling.error < 0.06
    assert telling.error_without_loss > 0.25
    assert telling.within >= 10
    assert "a checkpoint left out is predicted" in telling.verdict
    shuffled = np.random.default_rng(3).permutation(drawn(1).successes)
    idle = predict_left_out(Counts(LOSSES, shuffled, EPISODES), alone)
    assert idle.error > 0.8 * idle.error_without_loss
    assert "tells next to nothing" in idle.verdict


def test_of_several_runs_a_whole_one_is_left_out():
    """Each run has its own curve: its own checkpoints tell of one another what those of another run do not."""
    runs = ["one", "two"] * (len(LOSSES) // 2)
    shift = np.where(np.array(runs) == "one", 1.5, -1.5)
    odds = truth(LOSSES) / (1 - truth(LOSSES)) * np.exp(shift)
    counts = Counts(LOSSES, np.round(160 * odds / (1 + odds)), EPISODES)
    found = predict_left_out(counts, runs)
    assert found.left_out == "run"
    assert found.error > 0.3
    within = [predict_left_out(counts[np.array(runs) == run], [run] * 6).error for run in ("one", "two")]
    assert max(within) < 0.1


def curve_of(
    spec: PolicySpec, seed: int = 0, data: Iterable[str] = DATA, held_out: tuple[float, int] = HELD_OUT
) -> Curve:
    points = [
        Point(f"run/epoch{number}", float(loss), int(count), 160)
        for number, (loss, count) in enumerate(zip(LOSSES, drawn(seed).successes, strict=True))
    ]
    return Curve.measured(Kind.of(spec, data, held_out), points)


def test_a_file_gives_back_what_was_written(tmp_path):
    curves = [
        curve_of(metaworld_spec("reach", "push")),
        curve_of(metaworld_spec("reach", head="regression"), 2),
    ]
    write_calibration(tmp_path / "calibration.json", curves)
    assert list(read_calibration(tmp_path / "calibration.json").curves) == curves


def test_a_loss_within_what_was_measured_is_told_with_an_interval_and_one_outside_is_not():
    curve = curve_of(metaworld_spec("reach", "push"))
    said = curve.says(0.031)
    assert said.startswith("validation loss 0.031: such checkpoints succeeded ")
    assert said.endswith(" % on these tasks")
    low, high = map(int, said.partition("succeeded ")[2].partition(" %")[0].split("–"))
    assert low <= 100 * truth(np.array(0.031)) <= high
    assert high - low < 25
    for loss in (0.009, 0.51):
        assert "no curve applies, success was measured from 0.01 to 0.5" in curve.says(loss)


def test_a_curve_is_for_its_own_head_sampling_horizon_and_tasks(tmp_path):
    spec = metaworld_spec("reach", "push")
    write_calibration(tmp_path / "calibration.json", [curve_of(spec)])
    found = read_calibration(tmp_path / "calibration.json")
    assert found.curve_for(Kind.of(metaworld_spec("push", "reach"), DATA, HELD_OUT)) is not None
    assert spec.sampler is not None
    samplers = [
        spec.sampler.model_copy(update=change)
        for change in (
            {"prediction_type": "epsilon"},
            {"train_steps": 50},
            {"default_steps": 1},
            {"temperature": 0.0},
        )
    ]
    others = [
        metaworld_spec("reach", "push", head="regression"), metaworld_spec("reach"),
        spec.model_copy(update={"horizon": 16}),
        *(spec.model_copy(update={"sampler": sampler}) for sampler in samplers),
    ]  # fmt: skip
    for other in others:
        assert found.curve_for(Kind.of(other, DATA, HELD_OUT)) is None
        assert found.says_of(Kind.of(other, DATA, HELD_OUT)).startswith(
            "no curve of calibration.json applies to "
        )


def test_losses_on_other_demonstrations_are_not_read_off_it(tmp_path):
    spec = metaworld_spec("reach")
    write_calibration(tmp_path / "calibration.json", [curve_of(spec)])
    found = read_calibration(tmp_path / "calibration.json")
    other = Kind.of(spec, (*DATA, "more"), HELD_OUT)
    assert found.curve_for(other) is None
    assert "it was measured on other demonstrations" in found.says_of(other)


@pytest.mark.parametrize("held_out", [(0.05, 1), (0.1, 0)])
def test_losses_on_other_held_out_episodes_are_not_read_off_it(tmp_path, held_out):
    spec = metaworld_spec("reach")
    write_calibration(tmp_path / "calibration.json", [curve_of(spec)])
    found = read_calibration(tmp_path / "calibration.json")
    other = Kind.of(spec, DATA, held_out)
    assert found.curve_for(other) is None
    assert "other episodes were held out" in found.says_of(other)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "other/1"}', '{"format": "tinyvla-calibration/3", "curves": [{}]}', "5"]
)
def test_a_file_of_something_else_is_one_line(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UsageError, match=r"--calibration .*c\.json: not a file of `tinyvla calibrate`"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(UsageError, match="No such file"):
        read_calibration(tmp_path / "nowhere.json")


def write_run(run: Path, spec: PolicySpec, losses: list[float], data: Iterable[str] = DATA) -> None:
    """The state files of a run that kept every epoch; `best` is the last."""
    for name, number in [*((f"epoch{n + 1}", n) for n in range(len(losses))), ("best", len(losses) - 1)]:
        (run / name).mkdir(parents=True)
        progress = {"batches": 5 * (number + 1), "validation": losses[: number + 1]}
        state = {
            "spec": spec.model_dump(mode="json"),
            "progress": progress,
            "data_hashes": dict(enumerate(data)),
            "arguments": {"val_split": HELD_OUT[0], "split_seed": HELD_OUT[1]},
        }
        (run / name / "state.json").write_text(json.dumps(state))


def test_every_kept_checkpoint_goes_in_once_with_its_own_loss(tmp_path):
    write_run(tmp_path / "run", metaworld_spec("reach"), [0.5, 0.2, float("nan"), 0.3])
    (tmp_path / "run" / "epoch5.building").mkdir()  # a kill while it was written
    (tmp_path / "run" / "epoch5.building" / "state.json").write_text("{")
    found = kept_checkpoints(tmp_path / "run")
    assert [(kept.path.name, kept.loss) for kept in found] == [
        ("epoch1", 0.5),
        ("epoch4", 0.3),
        ("epoch2", 0.2),
    ]
    with pytest.raises(UsageError, match="keeps no checkpoint with a validation loss"):
        kept_checkpoints(tmp_path)


def test_of_many_checkpoints_some_are_taken_from_end_to_end():
    kept = [Kept(Path(str(n)), null_spec(), DATA, HELD_OUT, 1.0) for n in range(30)]
    assert [int(one.path.name) for one in spread(kept, 4)] == [0, 10, 19, 29]
    assert spread(kept[:3], 4) == kept[:3]


@pytest.fixture
def played(monkeypatch) -> list[Path]:
    """The checkpoints that are run in closed loop, without a simulator: they succeed as `truth` says."""
    ran: list[Path] = []

    def run(args, console):
        spec = json.loads((args.checkpoint / "state.json").read_text())["spec"]
        assert args.steps_per_chunk <= spec["horizon"]
        ran.append(args.checkpoint)
        losses = json.loads((args.checkpoint / "state.json").read_text())["progress"]["validation"]
        count = round(args.episodes * float(truth(np.array(losses[-1]))))
        args.out.mkdir(parents=True)
        return [Row(task, "policy", count, args.episodes, 0.0, 0.0, 1.0, None, 0.0) for task in args.tasks]

    monkeypatch.setattr(module, "evaluate", run)
    return ran


def test_runs_on_other_demonstrations_become_a_curve_of_their_own(played, tmp_path):
    for name, data in (("one", DATA), ("two", ("other",))):
        write_run(tmp_path / name, metaworld_spec("reach"), [0.4, 0.1, 0.05, 0.02], data)
    args = CalibrateArgs(runs=(tmp_path / "one", tmp_path / "two"), out=tmp_path / "out", episodes=50)
    curves = calibrate(args, Console(file=io.StringIO()))
    assert [(curve.kind.data, len(curve.points)) for curve in curves] == [(DATA, 4), (("other",), 4)]


def test_runs_of_both_heads_become_a_curve_each(played, tmp_path):
    write_run(tmp_path / "one", metaworld_spec("reach", "push"), [0.4, 0.1, 0.05, 0.02])
    write_run(tmp_path / "two", metaworld_spec("push", "reach"), [0.3, 0.06, 0.03])
    write_run(tmp_path / "three", metaworld_spec("reach", head="regression"), [0.4, 0.1, 0.05, 0.02])
    text = io.StringIO()
    args = CalibrateArgs(
        runs=tuple(tmp_path / name for name in ("one", "two", "three")), out=tmp_path / "out", episodes=50
    )
    calibrate(args, Console(file=text, width=200))
    assert len(played) == 11
    diffusion, regression = read_calibration(tmp_path / "out" / "calibration.json").curves
    assert (diffusion.kind.head, len(diffusion.points)) == ("diffusion", 7)
    assert (regression.kind.head, len(regression.points)) == ("regression", 4)
    assert {point.episodes for point in diffusion.points} == {100}  # two tasks
    assert (tmp_path / "out" / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert text.getvalue().count("a run left out is predicted") == 1  # there are two
    assert text.getvalue().count("a checkpoint left out is predicted") == 1


@pytest.mark.parametrize(
    ("losses", "task", "message"),
    [
        ([0.4, 0.1, 0.1], "reach", "takes 4 checkpoints of different validation losses, there are 2"),
        ([0.4, 0.3, 0.2, 0.1], "solder", "MetaWorld has no task solder"),
    ],
)
def test_what_cannot_become_a_curve_is_one_line_before_anything_runs(played, tmp_path, losses, task, message):
    write_run(tmp_path / "one", metaworld_spec(task), losses)
    with pytest.raises(UsageError, match=message):
        calibrate(CalibrateArgs(runs=(tmp_path / "one",), out=tmp_path / "out"), Console(file=io.StringIO()))
    assert played == []


def test_no_run_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="name the runs"):
        calibrate(CalibrateArgs(runs=(), out=tmp_path / "out"), Console(file=io.StringIO()))


def test_a_policy_of_another_robot_is_refused_before_anything_runs(played, tmp_path):
    write_run(tmp_path / "one", metaworld_spec("reach"), [0.4, 0.3, 0.2, 0.1])
    rig = metaworld_spec("reach").model_copy(update={"state": null_spec().state})
    write_run(tmp_path / "two", rig, [0.4, 0.3, 0.2, 0.1])
    with pytest.raises(UsageError, match="is not for MetaWorld"):
        calibrate(CalibrateArgs(runs=(tmp_path / "one", tmp_path / "two"), out=tmp_path / "out"))
    assert played == []


def test_chunks_shorter_than_the_usual_cadence_are_executed_whole(played, tmp_path):
    short = metaworld_spec("reach").model_copy(update={"horizon": 8, "max_prefix": 4})
    write_run(tmp_path / "one", short, [0.4, 0.3, 0.2, 0.1])
    calibrate(CalibrateArgs(runs=(tmp_path / "one",), out=tmp_path / "out"), Console(file=io.StringIO()))
    assert len(played) == 4


def test_two_runs_of_one_name_are_refused(tmp_path):
    runs = (tmp_path / "a" / "run", tmp_path / "b" / "run")
    with pytest.raises(UsageError, match="same directory name"):
        calibrate(CalibrateArgs(runs=runs))


def test_a_run_says_what_its_validation_loss_means(make_args, small_vision, tmp_path, capsys):
    trainer = Trainer(make_args(epochs=1, out=tmp_path / "probe"))
    held_out = (trainer.args.val_split, trainer.args.split_seed)
    curve = curve_of(trainer.spec, data=trainer.data.hashes.values(), held_out=held_out)
    wide = dataclasses.replace(curve, loss=tuple(np.geomspace(1e-6, 1e6, 33)))
    write_calibration(tmp_path / "fits.json", [wide])
    write_calibration(tmp_path / "other.json", [curve_of(metaworld_spec("reach"))])
    for name, expected in (
        ("fits", "such checkpoints succeeded"),
        ("other", "no curve of other.json applies"),
    ):
        Trainer(make_args(epochs=1, out=tmp_path / name, calibration=tmp_path / f"{name}.json")).run()
        told = capsys.readouterr().out
        assert told.count(expected) == 1
        assert ("validation loss" in told) == (name == "fits")
