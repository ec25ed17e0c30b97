"""How much faster our offscreen rendering is than MetaWorld's own `env.render()`, in one run.

.venv/bin/python tests/benchmarks/render.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

from clients.robots.metaworld_sim import MetaWorldSim

SIZE, FRAMES, CAMERA, TASK = 128, 40, "corner4", "pick-place"


def milliseconds(render: Callable[[], object]) -> float:
    """Mean time of a frame after two to warm up."""
    for _ in range(2):
        render()
    start = time.perf_counter()
    for _ in range(FRAMES):
        render()
    return (time.perf_counter() - start) / FRAMES * 1e3


def main() -> None:
    sim = MetaWorldSim(TASK, (CAMERA,), SIZE)
    sim.reset(0)
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

    make = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{TASK}-v3-goal-observable"]
    stock = make(render_mode="rgb_array", seed=0)
    stock.mujoco_renderer = MujocoRenderer(
        stock.model, stock.data, width=SIZE, height=SIZE, camera_name=CAMERA
    )
    stock.reset()
    assert stock.render().shape == (SIZE, SIZE, 3)
    stock_ms = milliseconds(stock.render)
    stock.close()
    renderer = sim.make_renderer()
    ours_ms = milliseconds(lambda: renderer.render(sim.physics_state()))
    renderer.close()
    print(f"stock env.render(): {stock_ms:.1f} ms; ours: {ours_ms:.1f} ms; ratio {stock_ms / ours_ms:.1f}x")


if __name__ == "__main__":
    main()
