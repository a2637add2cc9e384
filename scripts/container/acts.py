"""What the long check does with the images: look into the root, start the services as the compose
file says, use them, stop them."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.container import compose as composing
from scripts.container.chroot import ChrootError, tool
from scripts.container.image import Image, say
from scripts.container.service import Container

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
print(opener.open("http://127.0.0.1:" + sys.argv[1], timeout=20).read().decode())
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
        raise ChrootError(f"expected: {text}")
    say(f"  ok: {text}")


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
    page = server.execute("python", "-c", FETCH, "8080/")
    expect("<html" in page.stdout, "the dashboard is served")
    metrics = server.execute("python", "-c", FETCH, "8080/metrics")
    expect("# TYPE" in metrics.stdout, "metrics for Prometheus are served")
    done = server.execute("python", "-c", CONTROL)
    expect(done.returncode == 0, f"a control with the token: {done.stdout.strip()}{done.stderr}")
    # Its own home, so that it is not the user's rights that are in the way.
    changed = server.execute("sh", "-c", 'echo x > /tmp/x && echo x > "$HOME/x"')
    expect("Read-only file system" in changed.stderr, "the root cannot be written to")
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


def fetch(server: Container, address: str) -> Any:
    """JSON from a port of the server's network: "8080/api/games"."""
    got = server.execute("python", "-c", FETCH, address)
    if got.returncode:
        raise ChrootError(f"{address}: {got.stderr[-800:]}")
    return json.loads(got.stdout)


def wait_for(what: str, found: Callable[[], str], patience: float) -> None:
    """Ask until there is an answer that is not empty. Errors: ChrootError after a minute or so."""
    began = time.monotonic()
    while time.monotonic() - began < 60 * patience:
        if answer := found():
            expect(True, f"{what}: {answer}")
            return
        time.sleep(1)
    raise ChrootError(f"expected: {what}")


def check_game(
    image: Image, game: Image, compose: dict[str, Any], work: Path, patience: float
) -> None:
    """The service `mame` plays on a server of its own, and Prometheus reads that one's numbers."""
    services = composing.services(compose)
    server = Container(services["server-cpu"], compose, image, work, work / "played", patience)
    mame = Container(services["mame"], compose, game, work, work / "mame", patience)

    def playing() -> str:
        games = fetch(server, "8080/api/games")
        return "".join(f"{g['client']}, {g['frames']} frames" for g in games if g["frames"] > 200)

    say("the game, beside a server")
    try:
        # Before there is a server: it has to wait, as the compose file gives no order.
        server.start()
        mame.start(beside=server)
        server.wait_healthy()
        try:
            wait_for("MAME plays", playing, patience)
        except ChrootError as error:
            raise ChrootError(f"{error}\n{mame.running().said()}") from None
        check_prometheus(server, work / "prometheus")
        _, took = mame.stop()
        expect(True, f"the game ends after {took:.1f} s")
        code, took = server.stop()
        expect(code == 0, f"the server stops after {took:.1f} s with exit code {code}")
    finally:
        mame.kill()
        server.kill()


def check_prometheus(server: Container, work: Path) -> None:
    """Where this host has Prometheus: it reads deploy/, asks the server, and knows the alerts."""
    if shutil.which("prometheus") is None:
        say("  left out: Prometheus reads the server (apt-get install prometheus)")
        return
    source = Path(__file__).parent.parent.parent / "deploy/prometheus"
    shutil.copytree(source, work)
    config = work / "prometheus.yml"
    # The name is the compose file's; here all services have one address.
    config.write_text(config.read_text().replace("understudy:8080", "127.0.0.1:8080"))
    enter = [tool("nsenter"), f"--target={server.running().first}", "--net"]
    with (work / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [*enter, tool("prometheus"), f"--config.file={config}",
             f"--storage.tsdb.path={work / 'data'}", "--web.listen-address=127.0.0.1:9090"],
            stdout=output, stderr=output,
        )  # fmt: skip

    def asked(address: str) -> Any:
        try:
            return fetch(server, f"9090/api/v1/{address}")["data"]
        except ChrootError:
            return {}  # not there yet

    def frames() -> str:
        results = asked("query?query=understudy_frames").get("result", [])
        return "".join(f"{r['metric']['job']} has {r['value'][1]} frames" for r in results)

    try:
        wait_for("Prometheus reads the server's numbers", frames, server.patience)
        groups = asked("rules")["groups"]
        alerts = [rule for group in groups for rule in group["rules"]]
        broken = [rule["name"] for rule in alerts if rule.get("lastError")]
        expect(bool(alerts) and not broken, f"{len(alerts)} alert rules are evaluated")
    finally:
        process.terminate()
        process.wait()
