"""What a loss means: curves are found where there are some, bands hold the truth, nothing is said beyond them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from policy.errors import UsageError
from policy.null import null_spec
from policy.spec import InstructionSpec, PolicySpec
from trainer import calibrate as module
from trainer.calibrate import CalibrateArgs, calibrate, spread
from trainer.calibration.checkpoints import Kept, kept_checkpoints
from trainer.calibration.curve import Curve, Kind, Point, read_calibration, write_calibration
from trainer.calibration.fit import bootstrap_band, fit_logistic, leave_one_out
from trainer.evaluation.summary import Row
from trainer.train import Trainer

LOSSES = np.geomspace(0.01, 0.5, 12)
EPISODES = np.full(12, 160.0)


def truth(loss: np.ndarray) -> np.ndarray:
    """Success that falls with the loss from 90 to 5 %."""
    return 1 / (1 + np.exp(1.4 * (np.log(loss) - np.log(0.06))))


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(160, truth(LOSSES)).astype(float)


def metaworld_spec(*tasks: str, head: str = "diffusion") -> PolicySpec:
    spec = null_spec().model_copy(
        update={"instruction": InstructionSpec(by_task={task: (f"do {task}",) for task in tasks})}
    )
    return spec if head == "diffusion" else spec.model_copy(update={"head": head, "sampler": None})


def test_the_fit_finds_the_curve_that_the_episodes_were_drawn_from():
    fit = fit_logistic(LOSSES, 160 * truth(LOSSES), EPISODES)
    np.testing.assert_allclose(fit.rate(LOSSES), truth(LOSSES), atol=0.01)


def test_success_never_rises_with_the_loss():
    """Were the worst checkpoints to succeed most, a flat line is all that is said."""
    fit = fit_logistic(LOSSES, drawn(0)[::-1], EPISODES)
    assert fit.slope == 0
    np.testing.assert_allclose(fit.rate(LOSSES), drawn(0).sum() / EPISODES.sum(), atol=0.005)


def test_all_successes_or_none_still_give_a_rate_below_one_and_above_zero():
    for share in (0.0, 1.0):
        rate = fit_logistic(LOSSES, share * EPISODES, EPISODES).rate(LOSSES)
        assert np.all((rate > 0) & (rate < 1))
        np.testing.assert_allclose(rate, share, atol=0.05)


def test_the_band_holds_the_truth_nearly_always():
    held = []
    for seed in range(10):
        band = bootstrap_band(LOSSES, drawn(seed), EPISODES, seed)
        assert np.all(np.diff(band.rate) <= 0)
        assert np.all((band.low <= band.rate) & (band.rate <= band.high))
        held.append((band.low <= truth(band.loss)) & (truth(band.loss) <= band.high))
    assert 0.85 < np.mean(held) <= 1
    assert np.mean(band.high - band.low) < 0.2  # and it says something


def test_a_loss_that_predicts_is_told_from_one_that_does_not():
    telling = leave_one_out(LOSSES, drawn(1), EPISODES)
    assert telling.error < 0.06
    assert telling.error_without_loss > 0.25
    assert "predicted" in telling.verdict
    shuffled = np.random.default_rng(3).permutation(drawn(1))
    idle = leave_one_out(LOSSES, shuffled, EPISODES)
    assert idle.error > 0.8 * idle.error_without_loss
    assert "tells next to nothing" in idle.verdict


def curve_of(spec: PolicySpec, seed: int = 0) -> Curve:
    points = [
        Point(f"run/epoch{number}", float(loss), int(count), 160)
        for number, (loss, count) in enumerate(zip(LOSSES, drawn(seed), strict=True))
    ]
    return Curve.measured(Kind.of(spec), points)


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


def test_a_curve_is_for_its_own_head_prediction_horizon_and_tasks(tmp_path):
    spec = metaworld_spec("reach", "push")
    write_calibration(tmp_path / "calibration.json", [curve_of(spec)])
    found = read_calibration(tmp_path / "calibration.json")
    assert found.curve_for(metaworld_spec("push", "reach")) is not None
    assert spec.sampler is not None
    epsilon = spec.model_copy(
        update={"sampler": spec.sampler.model_copy(update={"prediction_type": "epsilon"})}
    )
    others = [
        metaworld_spec("reach", "push", head="regression"), metaworld_spec("reach"), epsilon,
        spec.model_copy(update={"horizon": 16}),
    ]  # fmt: skip
    for other in others:
        assert found.curve_for(other) is None
        assert found.says_of(other).startswith("no curve of calibration.json applies to ")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "other/1"}', '{"format": "tinyvla-calibration/1", "curves": [{}]}', "5"]
)
def test_a_file_of_something_else_is_one_line(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UsageError, match=r"--calibration .*c\.json: not a file of `tinyvla calibrate`"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(UsageError, match="No such file"):
        read_calibration(tmp_path / "nowhere.json")


def write_run(run: Path, spec: PolicySpec, losses: list[float]) -> None:
    """The state files of a run that kept every epoch; `best` is the last."""
    for name, number in [*((f"epoch{n + 1}", n) for n in range(len(losses))), ("best", len(losses) - 1)]:
        (run / name).mkdir(parents=True)
        progress = {"batches": 5 * (number + 1), "validation": losses[: number + 1]}
        state = {"spec": spec.model_dump(mode="json"), "progress": progress}
        (run / name / "state.json").write_text(json.dumps(state))


def test_every_kept_checkpoint_goes_in_once_with_its_own_loss(tmp_path):
    write_run(tmp_path / "run", metaworld_spec("reach"), [0.5, 0.2, float("nan"), 0.3])
    found = kept_checkpoints(tmp_path / "run")
    assert [(kept.path.name, kept.loss) for kept in found] == [
        ("epoch1", 0.5),
        ("epoch4", 0.3),
        ("epoch2", 0.2),
    ]
    with pytest.raises(UsageError, match="keeps no checkpoint with a validation loss"):
        kept_checkpoints(tmp_path)


def test_of_many_checkpoints_some_are_taken_from_end_to_end():
    kept = [Kept(Path(str(n)), null_spec(), 1.0) for n in range(30)]
    assert [int(one.path.name) for one in spread(kept, 4)] == [0, 10, 19, 29]
    assert spread(kept[:3], 4) == kept[:3]


@pytest.fixture
def played(monkeypatch) -> list[Path]:
    """The checkpoints that are run in closed loop, without a simulator: they succeed as `truth` says."""
    ran: list[Path] = []

    def run(args, console):
        ran.append(args.checkpoint)
        losses = json.loads((args.checkpoint / "state.json").read_text())["progress"]["validation"]
        count = round(args.episodes * float(truth(np.array(losses[-1]))))
        args.out.mkdir(parents=True)
        return [Row(task, "policy", count, args.episodes, 0.0, 0.0, 1.0, None, 0.0) for task in args.tasks]

    monkeypatch.setattr(module, "evaluate", run)
    return ran


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
    assert text.getvalue().count("a checkpoint left out is predicted") == 2


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


def test_two_runs_of_one_name_are_refused(tmp_path):
    runs = (tmp_path / "a" / "run", tmp_path / "b" / "run")
    with pytest.raises(UsageError, match="same directory name"):
        calibrate(CalibrateArgs(runs=runs))


def test_a_run_says_what_its_validation_loss_means(make_args, small_vision, tmp_path, capsys):
    trainer = Trainer(make_args(epochs=1, out=tmp_path / "probe"))
    wide = dataclasses.replace(curve_of(trainer.spec), loss=tuple(np.geomspace(1e-6, 1e6, 33)))
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
