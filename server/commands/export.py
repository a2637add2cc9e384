"""`understudy export`: a run's network as a file for other programs, checked before it is written.

The file holds all that stands between an observation and an action: scaling of pixels, running
normalization, the network, the choice.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent import checkpoint, demonstrations, recording
from agent.checkpoint import CheckpointError
from agent.files import written_whole
from agent.network_settings import mismatch, network_settings, settings_of
from agent.networks import QNetwork
from agent.recording import RecordingError
from config.load import ConfigError, config_of_run
from server.commands.exported_network import ExportError, Trained, check
from server.commands.onnx_model import OPSETS, onnx_file
from server.commands.torchscript_model import torchscript_file
from server.play.extras import how_to_install
from server.run import checkpoints
from server.run.directory import game_of

RANDOM, RECORDED = 256, 1024
"""Observations that an export is checked with, at most."""

BATCHES = (1, 7)
"""Sizes of the first batches: a file that only takes the one it was made with is noticed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="the run whose network it is")
    add(
        "--checkpoint",
        metavar="WHICH",
        help="best (in evaluations), newest, or a file; default: the best one, where the run was "
        "evaluated, else the newest",
    )
    out = parser.add_mutually_exclusive_group(required=True)
    out.add_argument("--onnx", type=Path, metavar="FILE", help="the same as --out, for ONNX")
    out.add_argument("--out", type=Path, metavar="FILE", help="the file to write")
    add(
        "--format",
        choices=("onnx", "torchscript"),
        default="onnx",
        help="with --out: what it is; TorchScript is for C++ with libtorch (default: onnx)",
    )
    add(
        "--opset",
        type=int,
        choices=OPSETS,
        metavar="N",
        help=f"with ONNX: the version of its operators, {OPSETS[0]} to {OPSETS[-1]} (default: "
        f"{OPSETS[0]}, which all engines read)",
    )
    add(
        "--float-input",
        action="store_true",
        help="the file takes float32 observations, whatever the game sends: for engines without "
        "uint8. The numbers are the game's: a pixel is 0 to 255",
    )


def main(args: argparse.Namespace) -> int:
    out, script = args.onnx or args.out, args.format == "torchscript"
    if script and (args.onnx or args.opset):
        option = "--onnx" if args.onnx else "--opset"
        raise ConfigError(f"{option} is about ONNX files; leave it out, or --format torchscript")
    try:
        if not script:
            _check_packages()
        trained = load_trained(args.run, args.checkpoint)
        observations = observations_for(trained, args.run)
        data, policy = (
            torchscript_file(trained, float_input=args.float_input)
            if script
            else onnx_file(trained, args.opset or OPSETS[0], float_input=args.float_input)
        )
        worst = check(policy, trained, observations)
        with written_whole(out) as file:
            file.write(data)
    except (ExportError, CheckpointError, RecordingError, OSError) as error:
        print(f"understudy export: {error}", file=sys.stderr)
        return 1
    if not trained.updates:
        print(
            "understudy export: this network has learnt nothing: it is from before the first "
            "update; --checkpoint says which one to take (best, newest, or a file)",
            file=sys.stderr,
        )
    print(
        f"{out}: {trained.spec.game}, update {trained.updates:,} of {args.run}; compared on "
        f"{sum(map(len, observations)):,} observations, off by {worst:.1e} at most"
    )
    return 0


def load_trained(run: Path, which: str | None) -> Trained:
    """A network of a run. Errors: ConfigError, CheckpointError."""
    # As it was saved: what the environment says now is about servers to come.
    config = config_of_run(run)
    spec = game_of(run)
    if spec is None:
        raise ConfigError(f"{run} has no game yet, so there is nothing to export")
    path = checkpoints.of_run(run, which) if which in (None, *checkpoints.WORDS) else Path(which)
    state = checkpoint.load(path, spec=checkpoint.spec_text(spec))
    network = QNetwork(spec, config.learner, frame_stack=config.replay.frame_stack)
    try:
        network.load_state_dict(state["learner"]["network"])
    except RuntimeError as error:
        asked = network_settings(config.learner, network.hidden, config.replay.frame_stack)
        text = mismatch(settings_of(state["learner"]), asked)
        raise CheckpointError(f"{path} and {run / 'config.toml'} differ: {text}") from error
    except _NO_STATE as error:
        raise _no_state(path, error) from error
    network.requires_grad_(False).eval()
    try:
        updates, frames = int(state["learner"]["updates"]), int(state["frames"])
    except _NO_STATE as error:
        raise _no_state(path, error) from error
    frame_stack = config.replay.frame_stack
    return Trained(network, spec, frame_stack, run.resolve().name, updates, frames)


_NO_STATE = (LookupError, TypeError, ValueError, AttributeError)
"""Errors of a state that is not a trainer's."""


def _no_state(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected what a trainer saves, got a state without it ({error!r}); export "
        "another checkpoint (--checkpoint)"
    )


def observations_for(trained: Trained, run: Path) -> list[npt.NDArray[Any]]:
    """Batches of rows to compare file and network on, [n, frame_stack * observation_size] each:
    random ones, and those of the run's demonstrations."""
    spec, stack = trained.spec, trained.frame_stack
    rng = np.random.default_rng(0)
    frames = np.zeros((RANDOM, stack * spec.observation_size), spec.observation_dtype)
    column = 0
    for look, part in zip(trained.network.looks, spec.parts(frames), strict=True):
        observation = look.observation
        if observation.choices:
            most = np.array(observation.choices).reshape(observation.shape)
            part[:] = rng.integers(0, most, part.shape)
        elif observation.dtype == "uint8" and observation.low is None:
            part[:] = rng.integers(0, 256, part.shape, np.uint8)
        elif observation.dtype == "bool":
            part[:] = rng.integers(0, 2, part.shape)
        elif look.factor != 1:  # within its bounds
            within = look.low + rng.random(part.shape) / look.factor
            part[:] = within if part.dtype.kind == "f" else np.round(within)
        elif part.dtype.kind == "f":
            numbers = rng.standard_normal(part.shape, np.float32)
            if look.normalized:  # about what the network is used to
                columns = slice(column, column := column + observation.size)
                mean = trained.network.obs_mean[columns].numpy().reshape(observation.shape)
                scale = trained.network.obs_scale[columns].numpy().reshape(observation.shape)
                numbers = numbers / scale + mean
            part[:] = numbers
        else:
            part[:] = rng.integers(-9, 10, part.shape)
    batches = [frames]
    for path in demonstrations.files(run):
        obs = recording.read(path, spec=spec).rows.obs
        if len(obs) >= stack:
            starts = rng.choice(len(obs) - stack + 1, min(RECORDED, len(obs)))
            batches.append(obs[starts[:, None] + np.arange(stack)].reshape(len(starts), -1))
    frames = np.concatenate(batches)[: RANDOM + RECORDED]
    return np.split(frames, np.cumsum(BATCHES))


def _check_packages() -> None:
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(
                f"the package {name} cannot be imported ({error}); {how_to_install('export')}"
            ) from error
