"""What the simulated needle rig shows: `python -m trainer.rig_pictures --out DIR` draws an insertion by the expert.

`rig-views.png` has the five views (columns) of three scenes and of an insertion's stages (rows); `rig-sensor.png` the
A-lines of the whole insertion, some of them alone, and the force.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from clients.rig_sim.lockstep import NeedleRigSim
from policy.errors import UsageError
from trainer.expert_needle_rig import expert_action

_SCENES = 3
_SCALE = 2
# Depths of the tip at which the insertion is shown, mm below the cap.
_SHOWN_DEPTHS = (-0.3, 3.0)


def draw(out: Path, seed: int) -> None:
    """Write both pictures.

    Raises:
        UsageError: no offscreen GL library.
    """
    out.mkdir(parents=True, exist_ok=True)
    sim = NeedleRigSim()
    cameras = sim.parameters.cameras
    renderer = sim.make_renderer(_SCALE * cameras.height, _SCALE * cameras.width)
    rows: list[np.ndarray] = []

    def shoot() -> None:
        shot = sim.snapshot()
        rows.append(np.concatenate(list(renderer.render(shot.layout, shot.pose).values()), axis=1))

    for scene in range(seed, seed + _SCENES):
        sim.reset(scene)
        shoot()
    sim.reset(seed)
    to_show = list(_SHOWN_DEPTHS)
    while not sim.done:
        sim.step(expert_action(sim.core))
        if to_show and sim.core.situation().depth > to_show[0]:
            to_show.pop(0)
            shoot()
    shoot()
    renderer.close()
    Image.fromarray(np.concatenate(rows)).save(out / "rig-views.png", optimize=True)
    _draw_sensor(sim, out / "rig-sensor.png")


def _draw_sensor(sim: NeedleRigSim, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    times, values = sim.stream()
    lines, pitch = values[:, 1:], sim.parameters.oct.pitch
    reach = lines.shape[1] * pitch
    figure, (scan, single, force) = plt.subplots(3, 1, figsize=(10, 9), constrained_layout=True)
    extent = (float(times[0]), float(times[-1]), reach, 0.0)
    shown = scan.imshow(lines[::10].T, aspect="auto", extent=extent, cmap="gray", vmin=-5, vmax=40)
    figure.colorbar(shown, ax=scan, label="dB")
    scan.set(title="A-lines of one insertion (simulation)", xlabel="s", ylabel="mm below the tip")
    for share in (0.05, 0.3, 0.8, 0.99):
        index = int(share * (len(times) - 1))
        single.plot(np.arange(lines.shape[1]) * pitch, lines[index], lw=0.6, label=f"{times[index]:.1f} s")
    single.set(xlabel="mm below the tip", ylabel="dB")
    single.legend()
    force.plot(times, values[:, 0], lw=0.5)
    force.set(xlabel="s", ylabel="axial force, N")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="rig_pictures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/rig-pictures"), help="directory of the pictures"
    )
    parser.add_argument("--seed", type=int, default=3, help="of the insertion's scene")
    asked = parser.parse_args(argv)
    try:
        draw(asked.out, asked.seed)
    except UsageError as error:
        print(f"rig_pictures: {error}", file=sys.stderr)
        return 2
    print(f"rig-views.png and rig-sensor.png in {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
