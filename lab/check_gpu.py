"""Tests and measures a machine with a GPU: the tests marked `gpu`, then updates, serving, a game.

Each step is a process of its own with a limit of its own, so that one that fails or hangs takes no
other along, and none inherits a CUDA context. The result is one file, which `understudy bench
--record --rows FILE` adds to the history.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lab.bench import gpu
from lab.bench.command import machine, revision

Row = dict[str, Any]

LIMIT_S = 350.0
"""Of all steps together."""

ENDING_S = 5.0
"""Kept back of it."""

STEP = "import sys; from lab.check_gpu import main; sys.exit(main())"
"""Not a module that is run: every game that a step starts would import it, and with it torch."""

SERVING_GOAL = 0.95
"""Frames a second while it trains, of those while it does not."""

LEAST_S = 5.0
"""A step for which less is left is not begun."""


def tests(args: argparse.Namespace) -> Iterator[Row]:
    """The tests marked `gpu`; on the cpu they are skipped, each with the reason."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "gpu"]
    files = ["tests/integration/test_gpu.py", "tests/integration/test_captured_updates.py"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    summary = re.findall(r"(\d+) (passed|failed|skipped|error)", _last(done.stdout))
    found = {what: int(n) for n, what in summary}
    row: Row = {"case": "gpu tests", "device": args.device}
    row |= {what: found.get(what, 0) for what in ("passed", "failed", "skipped")}
    row["ok"] = done.returncode == 0 and (args.device == "cpu" or not row["skipped"])
    if not row["ok"]:
        row["said"] = (done.stdout + done.stderr)[-3000:]
    yield row


def updates(args: argparse.Namespace) -> Iterator[Row]:
    """See lab.bench.gpu."""
    sizes = gpu.SMALL if args.small else gpu.Sizes()
    yield from gpu.measure(args.device, sizes, _show)


def serving(args: argparse.Namespace) -> Iterator[Row]:
    """32 clients of 195 numbers beside training, and while checkpoints are written."""
    from lab.bench import serving as bench_serving
    from lab.bench.serving import Shape

    shape, hidden, batch = Shape(32, 195), [512, 512, 256], 768
    if args.small:
        shape, hidden, batch = Shape(2, 4), [8], 16
    config = {
        "trainer.device": args.device, "replay.device": args.device,
        "learner.batch_size": batch, "replay.prioritized": True,
    }  # fmt: skip
    found = bench_serving.measure(
        shape, 44, hidden, seconds=1.0 if args.small else 4.0, rounds=1, config=config, show=_show
    )
    parameters = {"hidden": hidden, "batch_size": batch, "device": args.device}
    training, alone, *others = found.rows(parameters)
    of_alone = round(training["fps"] / alone["fps"], 3)
    training["fps_of_not_training"] = of_alone
    if args.device != "cpu":
        training |= {"goal": SERVING_GOAL, "ok": of_alone >= SERVING_GOAL}
    yield from (training, alone, *others)


def game(args: argparse.Namespace) -> Iterator[Row]:
    """The demo's game, played and learnt."""
    missing = [name for name in ("gymnasium", "Box2D") if find_spec(name) is None]
    if missing:
        yield {"case": "gpu game", "left_out": f"{' and '.join(missing)} is not installed"}
        return
    from lab.bench.sb3 import ENV, GAMES, WARM_UP, our_game

    frames, warm_up = (50, 50) if args.small else (10_000, WARM_UP)
    played = our_game(frames, GAMES, "float32", device=args.device, warm_up=warm_up)
    yield {
        "case": "gpu game", "env": ENV, "device": args.device, "frames": frames,
        "fps": round(played.frames_per_s), "updates_per_frame": round(played.updates_per_frame, 3),
    }  # fmt: skip


STEPS: dict[str, tuple[Callable[[argparse.Namespace], Iterator[Row]], float]] = {
    "tests": (tests, 110.0), "updates": (updates, 120.0), "serving": (serving, 80.0),
    "game": (game, 60.0),
}  # fmt: skip
"""Each with the seconds that it may take."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("check-gpu", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", default="cuda", help="device that is checked (%(default)s)")
    add("--small", action="store_true", help="sizes at which it only shows that it runs")
    add("--steps", nargs="*", choices=[*STEPS, []], default=list(STEPS), help="of: %(default)s")
    add("--out", type=Path, default=Path("gpu.json"), help="file of the result (%(default)s)")
    add("--only", choices=STEPS, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    if args.only:  # a step's own process
        for row in STEPS[args.only][0](args):
            print(json.dumps(row), flush=True)
        return 0
    begun, rows = time.monotonic(), []
    problem = _missing(args.device)
    if problem:
        print(f"check-gpu: {problem}", file=sys.stderr)
        return 2
    for name in args.steps:
        left = LIMIT_S - ENDING_S - (time.monotonic() - begun)
        for row in _step(name, args, min(left, STEPS[name][1])):
            print(json.dumps(row), flush=True)
            rows.append(row)
    ok = all(row.get("ok", True) for row in rows)
    result = {
        "revision": revision(), "device": args.device, "small": args.small, "ok": ok,
        "seconds": round(time.monotonic() - begun, 1),
        "rows": [{"case": "machine", **machine(args.device)}, *rows],
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    _show(f"{'all is well' if ok else 'something has failed'}; the rows are in {args.out}")
    return 0 if ok else 1


def _step(name: str, args: argparse.Namespace, limit_s: float) -> Iterator[Row]:
    """The rows of a step, and one that says how it ended where it did not end well."""
    _show(f"step {name}, at most {limit_s:.0f} s")
    if limit_s < LEAST_S:
        yield {"case": f"gpu {name}", "ok": False, "said": "no time was left for it"}
        return
    command = [sys.executable, "-c", STEP, "--only", name, "--device", args.device]
    # Who asks so whether there is a GPU has no CUDA context then, which nobody forked could use.
    environment = os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    with subprocess.Popen(
        [*command, *["--small"] * args.small],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=limit_s)
            how = f"it ended with {process.returncode}" if process.returncode else None
        except subprocess.TimeoutExpired:
            out, how = _rest(process), f"it took longer than {limit_s:.0f} s"
    yield from (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    if how:
        yield {"case": f"gpu {name}", "ok": False, "said": how}


def _rest(process: subprocess.Popen[str]) -> str:
    """End it, and all that it has started; what it has still said."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.communicate(timeout=ENDING_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def _missing(device: str) -> str | None:
    """What to do where there is no such device."""
    from agent.device_name import device_name

    try:
        device_name(device, "--device")
    except RuntimeError as error:
        return str(error)
    return None


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
