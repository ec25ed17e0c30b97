"""A base image without a registry: Debian's packages put into an empty root filesystem, its Python Debian's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"


class Buildah:
    """Debian's buildah with storage of its own under `directory`, for machines without a container engine."""

    def __init__(self, directory: Path) -> None:
        self.command = (
            "buildah", "--root", str(directory / "storage"), "--runroot", str(directory / "run"),
            "--storage-driver", "vfs",
        )  # fmt: skip

    def __call__(self, *arguments: str) -> None:
        """Run a subcommand; what it says goes to the terminal.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        subprocess.run([*self.command, *arguments], check=True)

    def output(self, *arguments: str) -> str:
        """What a subcommand prints."""
        return subprocess.run(
            [*self.command, *arguments], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def has_image(self, name: str) -> bool:
        """Whether the storage holds an image of this name."""
        shown = subprocess.run([*self.command, "inspect", "--type", "image", name], capture_output=True)
        return shown.returncode == 0


def make_base(buildah: Buildah, name: str, suite: str) -> None:
    """Build image `name` from Debian's `suite`, unless an earlier run did."""
    if buildah.has_image(name):
        return
    container = buildah.output("from", "scratch")
    try:
        root = Path(buildah.output("mount", container))
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(root), *_mirror(suite)],
            check=True,
        )
        for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / left)
        buildah("umount", container)
        buildah("commit", "--quiet", "--format", "docker", container, name)
    finally:
        buildah("rm", container)


def _mirror(suite: str) -> list[str]:
    """Where this machine's apt fetches the suite from; empty leaves the choice to debootstrap."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {suite}", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.split()[:1]
