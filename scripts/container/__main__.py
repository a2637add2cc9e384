"""The long check: build the image in a clean root, start it, play, stop it, start it again."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.container import compose as composing
from scripts.container.checks import problems
from scripts.container.image import Bases, Builder, Image, say
from scripts.container.room import RoomError
from scripts.container.service import Container, remove

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "understudy"

BUILD_TOOLS = ("gcc", "cc", "g++", "make", "ld", "git", "cargo", "nvcc")

GAME = """
import pathlib, random, sys
from understudy_client import RUNNING, TRUNCATED, Client, Discrete, Observation
token = pathlib.Path("/run/secrets/game_token").read_text().strip()
with Client.connect(
    "127.0.0.1", 7777, client="check/1", game="check",
    token=token if sys.argv[1] == "right" else "wrong",
    observation=Observation("float32", (4,)), actions=[Discrete("move", 3)],
) as game:
    for episode in range(40):
        for tick in range(51):
            status = TRUNCATED if tick == 50 else RUNNING
            answer = game.act([random.random() for _ in range(4)], 1.0, status, expert=[tick % 3])
print("played")
"""

FETCH = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open("http://127.0.0.1:8080" + sys.argv[1], timeout=5).read().decode()[:4000])
"""

CONTROL = """
import json, pathlib, urllib.request
token = pathlib.Path("/run/secrets/control_token").read_text().strip()
request = urllib.request.Request("http://127.0.0.1:8080/api/control",
    json.dumps({"checkpoint": True}).encode(),
    {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(request, timeout=30).read().decode())
"""


def expect(true: bool, text: str) -> None:
    """A line of the report, or the end of it."""
    if not true:
        raise RoomError(f"expected: {text}")
    say(f"  ok: {text}")


@contextmanager
def work_folder(parent: Path | None, keep: bool) -> Iterator[Path]:
    """A new folder, which is gone in the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="understudy-container-", dir=parent))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            remove(folder)


def check_root(image: Image) -> None:
    """What must not be in the final image."""
    path = image.environment["PATH"].split(":")
    found = [
        name for name in BUILD_TOOLS for folder in path
        if (image.root / folder.lstrip("/") / name).exists()
    ]  # fmt: skip
    expect(not found, f"no build tools in the image (found {found or 'none'})")
    site = next((image.root / "opt/understudy/lib").glob("python*/site-packages"))
    names = {one.name.partition("-")[0].lower() for one in site.glob("*.dist-info")}
    tools = names & {"pip", "setuptools", "wheel", "hatchling", "pytest", "mypy"}
    # A wheel of torch asks for setuptools at run time; nothing else of these is wanted.
    expect(tools <= {"setuptools"}, f"no installer among its packages (found {tools or 'none'})")
    leftovers = [image.root / "build", image.root / "root/.cache/pip", image.root / "run/secrets"]
    expect(not any(one.exists() for one in leftovers), "nothing is left of the build")
    written = [p for p in (image.root / "opt/understudy").rglob("*") if p.lstat().st_uid != 0]
    expect(not written, "the server's user cannot change the program")


def make_secrets(folder: Path, compose: dict[str, Any]) -> dict[str, str]:
    """A file for each secret, as docs/operating.md has them made; what they hold."""
    made = {}
    for name, one in compose["secrets"].items():
        path = folder / one["file"]
        path.parent.mkdir(mode=0o700, exist_ok=True)
        made[name] = secrets.token_hex(16)
        path.write_text(made[name] + "\n")
        path.chmod(0o644)
    return made


def check_running(server: Container, words: dict[str, str]) -> None:
    """The running server does what it is for, confined as the compose file says."""
    took, said = server.wait_healthy()
    expect(True, f"healthy after {took:.1f} s: {said}")
    wrong = server.execute("python", "-c", GAME, "wrong")
    expect(
        wrong.returncode != 0 and "token" in wrong.stderr, "a game with a wrong token is refused"
    )
    played = server.execute("python", "-c", GAME, "right", timeout_s=120 * server.patience)
    expect(played.stdout == "played\n", f"a game with the token plays {played.stderr[-800:]}")
    page = server.execute("python", "-c", FETCH, "/")
    expect("<html" in page.stdout, "the dashboard is served")
    metrics = server.execute("python", "-c", FETCH, "/metrics")
    expect("# TYPE" in metrics.stdout, "metrics for Prometheus are served")
    done = server.execute("python", "-c", CONTROL)
    expect(done.returncode == 0, f"a control with the token: {done.stdout.strip()}{done.stderr}")
    changed = server.execute("sh", "-c", "echo x > /opt/understudy/x || echo x > /etc/x")
    expect(changed.returncode != 0, "the root cannot be written to")
    who = server.execute("sh", "-c", "id -u; grep -h CapEff /proc/1/status; ls -ld /runs/default")
    uid, capabilities, _ = who.stdout.split("\n", 2)
    expect(uid != "0", f"it runs as uid {uid}")
    expect(int(capabilities.split()[1], 16) == 0, "it has no capabilities")
    everything = server.running().said(10_000) + "".join(
        path.read_text(errors="replace")
        for path in (server.volume("runs") / "default").glob("*.*")
        if path.is_file()
    )
    found = [name for name, word in words.items() if word in everything]
    expect(not found, "no secret is in the log or in the run's folder")


def check_stopped(server: Container, start: int) -> None:
    code, took = server.stop()
    expect(code == 0, f"SIGTERM ends it after {took:.1f} s with exit code {code}")
    run = server.volume("runs") / "default"
    saved = sorted(path.name for path in (run / "checkpoints").glob("*.pt"))
    expect(bool(saved), f"a checkpoint is kept: {', '.join(saved)}")
    expect((run / "summary.json").is_file(), "a summary is written")
    starts = (run / "starts.jsonl").read_text().splitlines()
    expect(len(starts) == start, f"the run was started so many times: {len(starts)}")
    if start > 1:
        expect("resumed from" in (run / "understudy.log").read_text(), "it went on with the run")


def check_server(image: Image, compose: dict[str, Any], work: Path, patience: float) -> None:
    """Twice: a new run, and the same run resumed by a new container."""
    words = make_secrets(work, compose)
    service = composing.services(compose)["server-cpu"]
    for start in (1, 2):
        say(f"start {start}: {' '.join(service['command'])}")
        server = Container(service, compose, image, work, work / "server", patience)
        try:
            server.start()
            check_running(server, words)
            check_stopped(server, start)
        finally:
            server.kill()


def size_mb(folder: Path) -> int:
    used = subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True)
    return int(used.stdout.split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-container", description=__doc__)
    parser.add_argument("--static", action="store_true", help="read the files only")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--mirror", help="where debootstrap gets packages; default: its own")
    parser.add_argument("--work", type=Path, help="folder for the roots; they take some GB")
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="for a busy machine: how many times as long as it should everything may take",
    )
    parser.add_argument("--keep", action="store_true", help="leave the roots there")
    args = parser.parse_args()

    found = problems(ROOT)
    for problem in found:
        say(problem)
    say(f"the files: {len(found)} problems" if found else "the files: nothing to complain of")
    if args.static or found:
        return int(bool(found))
    if os.geteuid() != 0:
        say("the long check needs root (chroot, mounts, debootstrap); --static does not")
        return 2

    # So that a SIGTERM, too, leaves neither processes nor folders behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    given = dict(one.partition("=")[::2] for one in args.build_arg)
    compose = composing.read((ROOT / "docker-compose.yml").read_text(), given)
    try:
        with work_folder(args.work, args.keep) as work:
            bases = Bases(CACHE / "bases", args.mirror)
            builder = Builder(ROOT, work, bases, CACHE / "caches")
            image = builder.build((ROOT / "Dockerfile").read_text(), given, "server")
            say(f"built after {time.monotonic() - began:.0f} s; "
                f"{size_mb(image.root / 'opt/understudy')} MB in /opt/understudy")  # fmt: skip
            check_root(image)
            check_server(image, compose, work, args.patience)
    except (RoomError, subprocess.CalledProcessError) as error:
        say(f"FAILED: {error}")
        return 1
    say(f"all well after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
