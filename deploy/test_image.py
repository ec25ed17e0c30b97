"""`make test-image`: build the Dockerfile and get actions from the server in it, with no container engine at hand.

Debian's buildah builds (chroot isolation, vfs storage) on a base that debootstrap makes, because CI reaches no
registry of images. Everything lies under build/image; the base stays there for the next run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from image_base import Buildah, make_base
from pip_settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "image"
SHIPPED = Path("bundles/metaworld8")
IMAGE = "tinyvla-server"


def main(argv: list[str]) -> int:
    """0 when the image serves, 1 when it does not, 2 when it cannot be tried here."""
    parser = argparse.ArgumentParser(prog="make test-image", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / SHIPPED, help="policy that goes into the image")
    parser.add_argument("--runtime", choices=("cpu", "gpu"), default="cpu", help="the Dockerfile's RUNTIME")
    parser.add_argument("--suite", default="bookworm", help="Debian release of the base image")
    asked = parser.parse_args(argv)
    try:
        if not (asked.bundle / "policy.json").is_file():
            raise RuntimeError(f"no policy bundle at {asked.bundle}: there is no policy.json")
        if os.geteuid() != 0:
            raise RuntimeError("building without a container engine needs root; run: sudo make test-image")
        _install_tools()
    except RuntimeError as error:
        print(f"test_image: {error}", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(WORK)
    base = f"localhost/tinyvla-base:{asked.suite}"
    try:
        make_base(buildah, base, asked.suite)
        with tempfile.TemporaryDirectory(dir=WORK) as scratch:
            _build(buildah, base, asked.runtime, asked.bundle, Path(scratch))
        try:
            # A network of its own: the default ports are free there, and nobody else can reach them.
            run = [sys.executable, str(ROOT / "deploy/run_image.py"), str(WORK), IMAGE]
            done = subprocess.run(["unshare", "--net", *run, str(asked.bundle / "policy.json")], check=False)
        finally:
            buildah("rmi", "--force", IMAGE)
    except subprocess.CalledProcessError as error:
        print(f"test_image: {error.cmd[0]} ended with code {error.returncode}", file=sys.stderr)
        return 1
    print(f"{IMAGE}: {'serves' if done.returncode == 0 else 'does not serve'}")
    return 0 if done.returncode == 0 else 1


def _install_tools() -> None:
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    if not missing:
        return
    line = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    print("running:", *line, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    if subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise RuntimeError(f"{' and '.join(missing)} cannot be installed; run: {' '.join(line)}")


def _build(buildah: Buildah, base: str, runtime: str, bundle: Path, scratch: Path) -> None:
    """Build the Dockerfile from the files that git knows, with `bundle` where the shipped policy lies."""
    context = scratch / "context"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, context / name)
    shutil.rmtree(context / SHIPPED, ignore_errors=True)
    shutil.copytree(bundle, context / SHIPPED)

    pip = read_settings()
    conf = scratch / "pip.conf"
    conf.write_text(pip.conf)
    mounts = [f"--volume={conf}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in pip.paths)]
    buildah(
        "build", "--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={base}",
        "--build-arg", f"RUNTIME={runtime}", *mounts, "--tag", IMAGE, str(context),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
