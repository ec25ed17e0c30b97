"""Who may import whom, what never reaches a server or a robot, and that nothing is ever unpickled."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each may import itself and what stands before it.
LAYERS = ("policy", "service", "clients", "trainer")
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
# msgpack_numpy unpickles arrays of objects.
UNPICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "msgpack_numpy",
}
HEAVY = ("torch", "transformers", "peft", "mujoco", "metaworld")
# Refuses an import at the moment it happens, also one inside a function.
REFUSING = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise AssertionError(f"{{name}} was imported")

sys.meta_path.insert(0, Refuse())
{code}
"""


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands."""

    module: str
    where: str  # file:line


def imports(source: str, file: str, package: str) -> Iterator[Import]:
    """Every import of a source, at any depth; relative ones are made absolute within `package`."""
    for node in ast.walk(ast.parse(source)):
        where = f"{file}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, where) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            yield Import(".".join([*parents, *filter(None, [node.module])]), where)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield Import(node.module, where)
        elif _name(node) in ("importlib.import_module", "import_module", "__import__"):
            assert isinstance(node, ast.Call)
            if node.args and isinstance(node.args[0], ast.Constant):
                yield Import(str(node.args[0].value), where)


def _name(node: ast.AST) -> str:
    """The dotted name that a call calls, or ''."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def imports_of(path: Path) -> list[Import]:
    inside = path.relative_to(ROOT)
    return list(imports(path.read_text(), str(inside), ".".join(inside.parent.parts)))


def upward(found: Import, layer: str) -> bool:
    """Whether a file of `layer` may not import this."""
    top = found.module.partition(".")[0]
    return top in LAYERS[LAYERS.index(layer) + 1 :] or top in ("tests", "deploy", "tinyvla")


def unpickling(source: str, file: str) -> list[str]:
    """Every way in which a source could unpickle, as file:line and why."""
    package = ".".join(Path(file).parent.parts)
    found = [
        f"{one.where}: imports {one.module}"
        for one in imports(source, file, package)
        if one.module.partition(".")[0] in UNPICKLERS
    ]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        where, name = f"{file}:{node.lineno}", _name(node)
        options = {
            word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)
        }
        if name == "torch.load" and options.get("weights_only") is not True:
            found.append(f"{where}: torch.load without weights_only=True")
        given = {word.arg for word in node.keywords}
        if "allow_pickle" in given and options.get("allow_pickle") is not False:
            found.append(f"{where}: allow_pickle is not False")
        if name.endswith("read_pickle"):
            found.append(f"{where}: {name}")
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == layer]
    assert len(files) > 5
    wrong = [f"{one.where}: {one.module}" for path in files for one in imports_of(path) if upward(one, layer)]
    assert wrong == []


def test_a_lazy_relative_or_dynamic_import_upwards_is_seen() -> None:
    source = """
def later():
    from clients.connect import connect
    import trainer.train as t
    import importlib
    importlib.import_module("service.app")
    from ..wire import values
"""
    found = list(imports(source, "policy/x.py", "policy.deep"))
    assert [one.module for one in found if upward(one, "policy")] == [
        "clients.connect",
        "trainer.train",
        "service.app",
    ]
    assert "policy.wire" in [one.module for one in found]


def test_torch_stays_out_of_service_clients_and_the_contract() -> None:
    """Whatever the depth: neither serving nor a robot may come to need it."""
    may = ("policy/networks/", "policy/export/", "policy/runtimes/eager", "policy/runtimes/torch", "trainer/")
    wrong = [
        one.where
        for path in FILES
        for one in imports_of(path)
        if one.module.partition(".")[0] in ("torch", "transformers", "peft") and not one.where.startswith(may)
    ]
    assert wrong == []


def test_the_simulators_stay_in_their_drivers_and_the_trainer() -> None:
    may = ("clients/robots/metaworld", "clients/rig_sim/", "trainer/")
    wrong = [
        one.where
        for path in FILES
        for one in imports_of(path)
        if one.module.partition(".")[0] in ("mujoco", "metaworld", "gymnasium")
        and not one.where.startswith(may)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        "import service.serve, service.running",
        "import policy.bundle, policy.runtimes.onnx, policy.null",
        "import clients.realtime_receiver, clients.session, clients.demo, clients.robots.make",
        "import clients.robots.needle_rig, clients.robots.rig_wire, clients.rig_sim.sim",
        "import clients.connect, clients.inprocess, clients.receiver, clients.report",
        "import tinyvla",
    ],
)
def test_a_server_or_a_robot_loads_neither_torch_nor_the_simulator(code: str) -> None:
    done = run_refusing(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("heavy", HEAVY)
def test_the_refusal_would_be_noticed(heavy: str) -> None:
    done = run_refusing(f"def f():\n    import {heavy}\nf()")
    assert done.returncode != 0
    assert f"{heavy} was imported" in done.stderr


def run_refusing(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter in which the heavy libraries cannot be imported."""
    program = REFUSING.format(heavy=HEAVY, code=code)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_nothing_is_ever_unpickled() -> None:
    files = [*FILES, ROOT / "tinyvla.py", *(ROOT / "deploy").rglob("*.py")]
    inside = [(path.read_text(), str(path.relative_to(ROOT))) for path in files]
    assert [found for source, file in inside for found in unpickling(source, file)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=careful)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "pd.read_pickle(path)",
    ],
)
def test_every_way_to_unpickle_is_seen(line: str) -> None:
    assert unpickling(f"def load(path):\n    {line}\n", "policy/x.py")


@pytest.mark.parametrize("line", ["torch.load(path, weights_only=True)", "np.load(path, allow_pickle=False)"])
def test_loading_without_unpickling_is_allowed(line: str) -> None:
    assert not unpickling(line, "policy/x.py")
