"""The job files start the trainer with flags that it has, on as many processes as the job has cards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from trainer.settings import TrainArgs

ROOT = Path(__file__).resolve().parents[2]
SBATCH = ROOT / "deploy" / "slurm" / "train.sbatch"
JOB = ROOT / "deploy" / "kubernetes" / "train-job.yaml"


def trainer_flags(command: list[str]) -> TrainArgs:
    """What follows `-m tinyvla train`, as the trainer reads it."""
    at = command.index("tinyvla")
    assert command[at - 1 : at + 2] == ["-m", "tinyvla", "train"]
    return tyro.cli(TrainArgs, args=command[at + 2 :])


@pytest.fixture
def cluster(tmp_path) -> dict[str, str]:
    """SLURM's commands as stand-ins: `srun` tells what it was asked to run."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {"srun": 'printf "%s\\n" "$@"', "scontrol": "printf 'node7\\nnode8\\n'"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "12", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "41", "SLURM_GPUS_ON_NODE": "8",
    }  # fmt: skip


def submitted(cluster: dict[str, str], *flags: str) -> list[str]:
    done = subprocess.run(["bash", str(SBATCH), *flags], env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_slurm_job_is_bash_that_asks_for_one_launcher_a_machine():
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    asked = [line.split()[1] for line in SBATCH.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--ntasks-per-node=1", "--gpus-per-node=4"} <= set(asked)


def test_the_slurm_job_starts_the_trainer_on_every_card(cluster):
    command = submitted({**cluster, "DATASET": "data/mine"}, "--batch-size", "32", "--fsdp")
    assert command[0] == "torchrun"
    launcher = dict(zip(command[1:11:2], command[2:11:2], strict=True))
    assert (launcher["--nnodes"], launcher["--nproc-per-node"]) == ("2", "8")
    assert (launcher["--rdzv-endpoint"], launcher["--rdzv-id"]) == ("node7:29500", "41")
    args = trainer_flags(command)
    assert (args.dataset_dir, args.batch_size, args.fsdp, args.resume) == (
        (Path("data/mine"),),
        32,
        True,
        False,
    )


def test_the_slurm_launcher_gets_the_processors_that_the_job_asked_for(cluster, tmp_path):
    srun = tmp_path / "bin" / "srun"
    srun.write_text('#!/bin/sh\necho "$SRUN_CPUS_PER_TASK"\n')
    assert submitted(cluster) == ["12"]


def test_a_slurm_job_that_was_cut_off_goes_on(cluster, tmp_path):
    (tmp_path / "runs" / "train" / "last").mkdir(parents=True)
    assert trainer_flags(submitted(cluster)).resume


def test_the_kubernetes_job_starts_the_trainer_on_every_card():
    service, job = yaml.safe_load_all(JOB.read_text())
    pods: dict[str, Any] = job["spec"]["template"]["spec"]
    (container,) = pods["containers"]
    command = container["command"] + container["args"]
    args = trainer_flags(command)
    assert (args.device, args.batch_size) == ("cuda", 32)
    launcher = dict(flag.split("=") for flag in command if flag.startswith("--") and "=" in flag)
    assert int(launcher["--nproc-per-node"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert int(launcher["--nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    # The name that the first pod goes by: job, index and the headless service.
    host = launcher["--rdzv-endpoint"].partition(":")[0]
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pods["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pods["volumes"]}
