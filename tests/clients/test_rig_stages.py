"""Errors of an insertion are what their definitions say, whatever the speed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clients.rig_sim.parameters import load_parameters
from clients.rig_sim.stages import EpisodeMetrics, Situation, StageTracker

PARAMETERS = load_parameters()
ABOVE = Situation(
    time=0.0, depth=-1.0, lateral=2.0, angle=0.0, inside=False, retina_distance=8.0, axial_force=0.0, lateral_force=0.0
)  # fmt: skip


def watched(path: list[tuple[float, float, bool]]) -> EpisodeMetrics:
    """Metrics of a tip at these depths, lateral offsets and sides of the funnel, a tick each."""
    tracker = StageTracker(PARAMETERS.task, PARAMETERS.limits)
    for tick, (depth, lateral, inside) in enumerate(path):
        tracker.watch(
            replace(
                ABOVE, time=tick / 100, depth=depth, lateral=lateral, inside=inside, retina_distance=8 - depth
            ),
            None,
        )
    return tracker.metrics()


def descent(begin: float, end: float, lateral: float, ticks: int = 50) -> list[tuple[float, float, bool]]:
    return [(begin + (end - begin) * (i + 1) / ticks, lateral, True) for i in range(ticks)]


def test_the_path_error_is_the_mean_over_the_depth_reached_below_the_cap() -> None:
    path = [(-1.0, 2.0, False)] * 30 + descent(0, 1, 0.2) + descent(1, 3, 0.1)
    found = watched(path)
    assert found.path_error_mean == pytest.approx((1 * 0.2 + 2 * 0.1) / 3)
    assert found.path_error_max == 0.2


def test_speed_pauses_and_retreats_do_not_weigh_in_the_path_error() -> None:
    plain = watched(descent(0, 1, 0.2) + descent(1, 2, 0.1))
    slow = watched(descent(0, 1, 0.2, ticks=500) + [(1.0, 0.9, True)] * 300 + descent(1, 2, 0.1, ticks=7))
    back = watched(descent(0, 1, 0.2) + descent(1, 0.2, 0.9) + descent(0.2, 1, 0.9) + descent(1, 2, 0.1))
    assert plain.path_error_mean == pytest.approx(0.15)
    for other in (slow, back):
        assert other.path_error_mean == pytest.approx(0.15)
        assert other.path_error_max == 0.2


def test_a_tip_that_goes_down_beside_the_trocar_has_no_path_error() -> None:
    found = watched([(0.1 * i, 1.5, False) for i in range(8)])
    assert found.path_error_mean is None
    assert found.path_error_max is None
