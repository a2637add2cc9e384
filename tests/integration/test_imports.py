"""What processes import, each in one of its own: what comes at all, what waits for its turn, and
what an installation without some of the packages says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.cli import COMMANDS, LAB

ROOT = Path(__file__).parents[2]

OF_THE_LAB = [name for name, (module, _) in COMMANDS.items() if module.split(".")[0] == LAB]


def without_lab(*commands: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of commands where there is no package `lab`, as in a container.

    One process runs them all: most of what one takes is its imports.
    """
    program = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.abc import MetaPathFinder

class WithoutLab(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lab":
            raise ModuleNotFoundError("No module named 'lab'", name="lab")

sys.meta_path.insert(0, WithoutLab())
import pytest

from server.cli import main
found = []
for command in sys.argv[1:]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        try:
            code = main(command.split())
        except SystemExit as end:
            code = end.code
    found.append((code or 0, out.getvalue(), errors.getvalue()))
print(json.dumps(found))
"""
    command = [sys.executable, "-c", program, *commands]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found: list[tuple[int, str, str]] = json.loads(done.stdout)
    assert len(found) == len(commands)
    return found


def test_the_lab_has_commands() -> None:
    assert {"bench", "audit", "chaos", "fuzz", "soak", "study"} <= set(OF_THE_LAB)


def test_each_lab_command_without_lab_says_where_it_runs() -> None:
    found = without_lab(*(f"{name} --help" for name in OF_THE_LAB))
    for name, (code, output, errors) in zip(OF_THE_LAB, found, strict=True):
        assert code == 2
        assert output == ""
        (line,) = errors.splitlines()
        assert line.startswith(f"understudy {name}: this installation does not include")
        assert f"scripts/install there, then .venv/bin/understudy {name}" in line


def test_other_commands_do_not_need_lab() -> None:
    assert [code for code, *_ in without_lab("config show", "--help")] == [0, 0]


_SUPERVISOR = """
import sys
from pathlib import Path
import agent.device_name as module
import server.commands.serve
from agent import checkpoint

module.version = lambda _: "2.9.0+cpu"
assert [module.device_name(name, "server.device") for name in ("cpu", "auto")] == ["cpu", "cpu"]
assert checkpoint.best(Path(sys.argv[1])) is checkpoint.latest(Path(sys.argv[1])) is None
print(*(name for name in ("torch", "server.trainer.trainer") if name in sys.modules))
"""


def test_supervisor_modules_do_not_import_torch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its children import it side by side meanwhile."""
    command = [sys.executable, "-c", _SUPERVISOR, str(tmp_path_factory.mktemp("none"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


_TRAINER = """
import sys
import server.trainer.process
import torch
from pathlib import Path
from agent import checkpoint
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.step import STEP, StepBlock
from agent.training_step import learn, take_in
from config.models import Config
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

heads = (Discrete("a", 2), Continuous("c", -1.0, 1.0, 1))
spec = GameSpec("g", Observation("float32", (3,)), heads)
config = Config.model_validate({"learner": {"hidden": [8], "batch_size": 4}})
device = torch.device("cpu")
replay, learner = make_replay(config, spec, device), make_learner(config, spec, device)
block = StepBlock.empty(spec, 8)
block.kind[:], block.actor[:], block.seq[:] = STEP, 1, range(8)
evidence = Evidence()
take_in(block, replay, learner, evidence)
assert list(learn(config, replay, learner, device, 8, evidence, 1))
learner.metrics(), learner.heads()
checkpoint.save(Path(sys.argv[1]), {"learner": learner.state_dict()})
learner.load_state_dict(checkpoint.load(Path(sys.argv[1]))["learner"])
assert list(learn(config, replay, learner, device, 8, evidence, 1))
print(*(name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules))
"""


def test_trainer_learn_and_save_imports_no_torch_compiler(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("compiler") / "x.pt"
    command = [sys.executable, "-c", _TRAINER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_nothing_slow_is_imported_before_children_are_prepared() -> None:
    code = "import sys, server.cli; print(*{'pydantic', 'numpy', 'rich', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_start_that_is_refused_leaves_no_process_at_its_imports(tmp_path: Path) -> None:
    (tmp_path / "imports_for_ever.py").write_text("import time\ntime.sleep(100)\n")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "from server.supervisor import fork_server\n"
        "fork_server.CONTEXT.set_forkserver_preload(['imports_for_ever'])\n"
        "fork_server.prepare()\n"
        "print(fork_server._server._forkserver_pid)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, deadline = int(done.stdout), time.monotonic() + 20
    try:
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _runs(pid)
    finally:
        if _runs(pid):
            os.kill(pid, 9)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie has none
    except FileNotFoundError:
        return False
