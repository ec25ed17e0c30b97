"""On a Ray cluster: the same jobs, the same files and tables; a worker that dies costs nothing that is not told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinyvla
from clients.lerobot_v3 import dataset_hash
from policy.errors import UsageError
from trainer.ray_cluster import RayCluster
from trainer.ray_workers import RayWorkers

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120  # for what must happen in the end, on a machine that is busy with other things


@pytest.fixture(scope="module")
def address():
    """A cluster of two processors that this machine already runs, as `ray start --head` leaves one."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.delenv("PYTHONPATH", raising=False)  # its machines have no copy of this code
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        cluster.add_node(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def pool(address, tmp_path_factory):
    with pytest.MonkeyPatch.context() as place:
        place.chdir(
            tmp_path_factory.mktemp("elsewhere")
        )  # Ray's workers also look where the command was given
        made = RayWorkers(RayCluster(address), None)
    yield made
    made.shutdown(cancel_futures=True)


@pytest.mark.slow
def test_there_is_a_worker_per_processor_of_the_cluster_and_it_runs_this_code(pool):
    assert pool.size == 2
    where = pool.submit(eval, "__import__('trainer').__file__").result(PATIENCE_S)
    assert Path(where).read_bytes() == (ROOT / "trainer" / "__init__.py").read_bytes()
    assert not where.startswith(str(ROOT))
    assert pool.submit(os.getpid).result(PATIENCE_S) != os.getpid()


@pytest.mark.slow
def test_a_job_whose_worker_dies_is_run_again(pool, tmp_path):
    note = tmp_path / "tried"
    dies_once = f"os.path.exists({str(note)!r}) or (open({str(note)!r}, 'w').close(), os._exit(1))"
    assert pool.submit(eval, dies_once, {"os": os}).result(PATIENCE_S) is True


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_told_and_the_others_are_done(pool):
    deadly, others = pool.submit(os._exit, 1), [pool.submit(pow, 3, n) for n in range(5)]
    with pytest.raises(UsageError, match=r"died 4 times on the same episode .*; give the same command again"):
        deadly.result(PATIENCE_S)
    assert [other.result(PATIENCE_S) for other in others] == [1, 3, 9, 27, 81]


@pytest.mark.slow
def test_what_a_job_raises_arrives_as_it_was(pool):
    with pytest.raises(ValueError, match=r"^invalid literal for int\(\) with base 10: 'x'$"):
        pool.submit(int, "x").result(PATIENCE_S)


@pytest.mark.slow
def test_a_machine_that_does_not_see_what_it_must_says_which_file(pool, monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "_shares", (tmp_path / "bundle",))
    with pytest.raises(UsageError, match=f"does not see {tmp_path}/bundle: it must lie where every machine"):
        pool.submit(pow, 2, 2).result(PATIENCE_S)


@pytest.mark.slow
def test_an_interrupted_command_ends_its_jobs(address):
    code = f"""
import time
from trainer.ray_cluster import RayCluster
from trainer.ray_workers import RayWorkers
pool = RayWorkers(RayCluster({address!r}), 1)
jobs = [pool.submit(time.sleep, 3600) for _ in range(3)]
while not jobs[0].running(): time.sleep(0.01)
pool.shutdown(wait=False, cancel_futures=True)
print([job.done() for job in jobs])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[True, True, True]"


def tinyvla_command(*flags: object) -> None:
    """In a process of its own: `--ray local` takes possession of the one that it is in."""
    subprocess.run(
        [sys.executable, "-m", "tinyvla", *map(str, flags)], cwd=ROOT, check=True, timeout=2 * PATIENCE_S
    )


@pytest.mark.slow
def test_the_same_dataset_byte_for_byte_and_the_same_table(tmp_path, address):
    collecting = ["--task", "reach", "--episodes", 2, "--cameras", "corner4", "--size", 32, "--seed", 4]
    tinyvla_command("collect", "--out", tmp_path / "ray", *collecting, "--ray", "local", "--workers", 2)
    assert (
        tinyvla.main(["collect", "--out", str(tmp_path / "here"), *map(str, collecting), "--workers", "1"])
        == 0
    )
    assert dataset_hash(tmp_path / "ray") == dataset_hash(tmp_path / "here")

    evaluating = ["--task", "reach", "--episodes", 1, "--ddim-steps", 2]
    tinyvla_command("evaluate", "--out", tmp_path / "there", *evaluating, "--ray", address)
    assert (
        tinyvla.main(
            ["evaluate", "--out", str(tmp_path / "here-too"), *map(str, evaluating), "--workers", "1"]
        )
        == 0
    )
    for name in ("results.md", "results.json", "protocol.json"):
        assert (tmp_path / "there" / name).read_text() == (tmp_path / "here-too" / name).read_text()
    ran = [
        sorted((tmp_path / out / "episodes.jsonl").read_text().splitlines()) for out in ("there", "here-too")
    ]
    assert ran[0] == ran[1]


def test_without_ray_one_line_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    flags = ["--task", "reach", "--size", "16", "--out", str(tmp_path / "out"), "--ray", "auto"]
    assert tinyvla.main(["collect", *flags]) == 2
    assert (
        capsys.readouterr().err
        == "tinyvla collect: --ray needs Ray; run: pip install -c constraints.txt -e '.[cluster]'\n"
    )


@pytest.mark.parametrize("wrong", ["not an address", "127.0.0.1:1", "tcp://127.0.0.1:1"])
def test_an_address_where_nothing_is_is_one_line(tmp_path, capsys, wrong):
    flags = ["--task", "reach", "--size", "16", "--out", str(tmp_path / "out"), "--ray", wrong]
    assert tinyvla.main(["collect", *flags]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"tinyvla collect: --ray {wrong}: no cluster to work on: ")
    assert line.count("\n") == 1
