"""Checks of this machine for a server with these settings. It changes nothing, keeps no port."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.device import resolve_device
from agent.step import StepBlock
from config.load import ConfigError, Loaded
from config.models import Config
from config.secrets import with_secrets
from server.commands.doctor.report import FAILED, StepResult, failed, ok, skipped, warning
from server.gateway.process import open_files_wanted
from server.net.tls import certificate
from server.run.directory import RUNS, game_of
from server.supervisor import exposure
from server.web.server import any_http_port

OLDEST, NEWEST = (3, 11), (3, 13)
"""Of Python."""

MODULES = ("torch", "numpy", "msgspec", "uvloop", "pydantic", "starlette", "uvicorn", "rich")

SHARED = Path("/dev/shm")

MB = 1 << 20

SPARE_SHARED_BYTES = 64 * MB
"""While the game is not known. It is what a container gets by default."""

LITTLE_DISK, MUCH_DISK = 500 * MB, 5000 * MB


def examine_machine(loaded: Loaded, run: Path | None) -> Iterator[StepResult]:
    """A result for each step; none depends on another. `run`: the folder of a run that is to be
    resumed."""
    config = loaded.config
    checks: dict[str, Callable[[str], StepResult]] = {
        "python": _python,
        "packages": _packages,
        "settings": lambda step: _settings(step, config),
        "device": lambda step: _device(step, config),
        "cores": lambda step: _cores(step, config),
        "shared memory": lambda step: _shared_memory(step, config, run),
        "open files": lambda step: _open_files(step, config),
        "disk": lambda step: _disk(step, run or config.run.dir or RUNS),
        "port": lambda step: _port(step, "server.port", config.server.host, config.server.port),
        "http port": lambda step: _http_port(step, loaded),
        "tempest port": lambda step: _port(
            step, "tempest.port", config.tempest.host, config.tempest.port
        ),
        "websocket port": lambda step: _port(
            step, "server.websocket_port", config.server.host, config.server.websocket_port
        ),
    }
    for step, check in checks.items():
        yield check(step)


def _python(step: str) -> StepResult:
    now = sys.version_info[:2]
    text = f"{sys.version.split()[0]} at {sys.executable}"
    if OLDEST <= now <= NEWEST:
        return ok(step, text)
    known = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    return failed(step, text, f"install Python {known}, and understudy with it")


def _packages(step: str) -> StepResult:
    found = []
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            return failed(step, f"{name} cannot be imported: {error}", "run scripts/install again")
        if name in ("torch", "numpy"):
            found.append(f"{name} {module.__version__}")
    return ok(step, ", ".join(found))


def _settings(step: str, config: Config) -> StepResult:
    """What the server would refuse to start with: token files, certificate, exposure."""
    try:
        complete = with_secrets(config)
        exposure.check(complete)
        secured = certificate(complete.server)
    except ConfigError as error:
        return failed(step, str(error), "correct it where it is set")
    token = "a token" if complete.server.token else "no token"
    return ok(step, f"{token}, {'TLS' if secured else 'no TLS'}, on {complete.server.host}")


def _device(step: str, config: Config) -> StepResult:
    found = []
    for key, name in (
        ("trainer.device", config.trainer.device),
        ("replay.device", config.replay.device),
        ("server.device", config.server.device),
    ):
        try:
            found.append(f"{key} {resolve_device(name, key)}")
        except RuntimeError as error:
            return failed(step, str(error), "choose cpu or auto, or install the GPU's driver")
    return ok(step, ", ".join(found))


def _cores(step: str, config: Config) -> StepResult:
    cores = len(os.sched_getaffinity(0))
    wanted = config.server.gateways + 1
    text = f"{cores} for {config.server.gateways} gateway(s) and the trainer"
    if cores >= wanted:
        return ok(step, text)
    return warning(step, text, f"with fewer than {wanted} cores, learning slows the games down")


def _shared_memory(step: str, config: Config, run: Path | None) -> StepResult:
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError as error:
        return failed(step, f"{SHARED}: {error.strerror}", f"mount a tmpfs on {SHARED}")
    try:
        spec = None if run is None else game_of(run)
    except ConfigError as error:
        return failed(step, str(error), "choose another run")
    wanted, what = SPARE_SHARED_BYTES, "a small game's rings"
    if spec is not None:
        rows, memory = config.server.ring_steps, config.learner.state_size
        rings = config.server.gateways * StepBlock.nbytes(spec, rows, memory)
        wanted, what = rings + SPARE_SHARED_BYTES // 4, "this run's rings and weights"
    text = f"{free // MB} MB free in {SHARED}, {wanted // MB} MB needed for {what}"
    if free >= wanted:
        return ok(step, text)
    return failed(step, text, "enlarge it (shm_size in a container), or lower server.ring_steps")


def _open_files(step: str, config: Config) -> StepResult:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # a server raises the soft one by itself
    wanted, endless = open_files_wanted(config), hard == resource.RLIM_INFINITY
    text = f"{'any number' if endless else hard} may be open, {wanted} needed"
    if endless or hard >= wanted:
        return ok(step, text)
    return failed(step, text, "raise the limit (ulimit -n), or lower server.max_clients")


def _disk(step: str, folder: Path) -> StepResult:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        free = shutil.disk_usage(place).free
    except OSError as error:
        return failed(step, f"{place} is not writable: {error.strerror}", "choose another --run")
    text = f"{free // MB} MB free for {folder}"
    if free < LITTLE_DISK:
        return failed(step, text, "free some space, or choose another --run")
    if free < MUCH_DISK:
        return warning(step, text, "a run of weeks with its checkpoints needs more")
    return ok(step, text)


def _http_port(step: str, loaded: Loaded) -> StepResult:
    server = loaded.config.server
    found = _port(step, "server.http_port", server.http_host, server.http_port)
    if found.result == FAILED and any_http_port(loaded):
        return warning(step, found.text, "none: the server takes another port, and prints it")
    return found


def _port(step: str, key: str, host: str, port: int | None) -> StepResult:
    """Whether the port is free, by binding it for a moment."""
    if port is None:
        return skipped(step, f"{key} is none")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(1)
    except OSError as error:
        return failed(
            step,
            f"{host}:{port} cannot be used: {error.strerror}",
            f"stop what uses it, or choose another {key}; to check the server itself, use "
            "--connect",
        )
    return ok(step, f"{host}:{port} is free")
