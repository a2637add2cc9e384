"""Tokens are nowhere to be seen, what is written is its owner's alone, and nothing that comes from
elsewhere can run code."""

from __future__ import annotations

import ast
import http.client
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from agent import checkpoint
from tests.support.preloaded import Understudy, completed
from tests.support.running import RawClient, hello_fields

pytestmark = pytest.mark.timeout(400)  # a busy machine starts two servers, one after the other

ROOT = Path(__file__).parents[2]

GAMES, CONTROLS = "the-word-of-the-games", "the-word-of-the-controls"
GUESS, CONTROL_GUESS = "a-guess-at-the-word", "another-guess-at-it"
SECRETS = (GAMES, CONTROLS, GUESS, CONTROL_GUESS)

PATHS = ("/", "/healthz", "/readyz", "/metrics", "/api/state", "/api/history", "/api/games")


@dataclass
class Seen:
    """All that a server has let out, by where."""

    run: Path
    texts: dict[str, bytes]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A server that was started for everybody to read its files, played, guessed at, resumed."""
    run = tmp_path_factory.mktemp("private") / "run"
    environment = {
        **os.environ,
        "UNDERSTUDY_SERVER__TOKEN": GAMES,
        "UNDERSTUDY_SERVER__CONTROL_TOKEN": CONTROLS,
    }
    options = ["--port", "0", "--server.http_port", "0", "--metrics.every_s", "0.2",
               "--metrics.tensorboard", "--learner.hidden", "[8]", "--trainer.device", "cpu",
               "--trainer.threads", "1"]  # fmt: skip
    texts: dict[str, bytes] = {}
    for launch, start in enumerate((["--run", str(run)], ["--resume", str(run)])):
        how: dict[str, Any] = {
            "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
            "text": True, "umask": 0o022,
        }  # fmt: skip
        if launch == 0:  # as who types it: what others see of its processes is looked at
            words = [sys.executable, "-m", "server", "serve", *start, *options]
            process: Any = subprocess.Popen(words, cwd=ROOT, **how)
        else:
            process = Understudy("serve", *start, *options, **how)
        try:
            assert process.stdout is not None
            said = ""
            while "dashboard:" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            port = int(re.findall(r"listens on 127\.0\.0\.1:(\d+)", said)[0])
            http_port = int(re.findall(r"dashboard: http://127\.0\.0\.1:(\d+)", said)[0])
            texts |= {f"{launch} {name}": text for name, text in use(port, http_port).items()}
            texts |= {f"{launch} command {pid}": command(pid) for pid in family(process.pid)}
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=100)
        assert process.returncode == 0, said + rest
        texts[f"{launch} output"] = (said + rest).encode()
    for form in ("table", "json", "toml"):
        form_words = [] if form == "table" else [f"--{form}"]
        shown = completed(
            "config", "show", "--resume", str(run), *form_words, env=environment, timeout=100
        )
        assert shown.returncode == 0, shown.stderr
        texts[f"config show {form}"] = (shown.stdout + shown.stderr).encode()
    for path in run.rglob("*"):
        if path.is_file():
            texts[f"file {path.relative_to(run)}"] = path.read_bytes()
    return Seen(run, texts)


def use(port: int, http_port: int) -> dict[str, bytes]:
    """Play, guess, control, and look at everything; what HTTP and the wire answered."""
    found = {}
    with RawClient(port, 60.0) as guesser:
        guesser.send([1, hello_fields(token=GUESS)])
        found["the wire"] = repr(guesser.rest()).encode()
    with RawClient(port, 60.0) as stranger:
        stranger.send([1, hello_fields(token=GAMES, protocol=0)])
        found["what the server is"] = repr(stranger.rest()).encode()
    with RawClient(port, 60.0) as game:
        game.welcome(token=GAMES)
        found["welcome"] = repr(game.fields).encode()
        for seq in range(20):
            game.frame(seq)
        for word, status in ((CONTROL_GUESS, 401), (CONTROLS, 200)):
            for body in ('{"checkpoint": true}', '{"set": {"expert.ratio": 0.25}}'):
                answer = fetch(http_port, "/api/control", "POST", body, word)
                assert answer.startswith(str(status).encode()), answer
                found[f"control {word[:3]} {body}"] = answer
        # Until the numbers of what was just done are there.
        deadline = time.monotonic() + 60
        while b'errors_by_code_total{code="bad_token"} 1' not in (fetch(http_port, "/metrics")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for path in PATHS:
            found[f"HTTP {path}"] = fetch(http_port, path)
    return found


def fetch(
    port: int, path: str, method: str = "GET", body: str | None = None, token: str | None = None
) -> bytes:
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return f"{response.status} {response.getheaders()}\n".encode() + response.read()
    finally:
        connection.close()


def family(pid: int) -> list[int]:
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for word in path.read_text().split():
            found += family(int(word))
    return found


def command(pid: int) -> bytes:
    """What other users may see of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_tokens_appear_in_no_output_of_a_server(seen: Seen) -> None:
    for name in ("file understudy.log", "file config.toml", "file metrics.jsonl", "0 output",
                 "1 output", "file changes.jsonl", "file summary.json", "0 HTTP /api/state",
                 "1 HTTP /metrics", "config show json", "0 what the server is"):  # fmt: skip
        assert len(seen.texts[name]) > 20, name
    assert any(name.startswith("file checkpoints/") for name in seen.texts)
    assert any(name.startswith("file tensorboard/") for name in seen.texts)
    assert b"bad_token" in seen.texts["file understudy.log"]
    assert b" refused: 401" in seen.texts["file understudy.log"]
    for name, text in seen.texts.items():
        for secret in SECRETS:
            said = secret.encode()
            for form in (said, secret.encode("utf-16-le"), said.hex().encode()):
                assert form not in text, f"{secret} is in {name}"


def test_token_search_finds_a_planted_token(seen: Seen) -> None:
    assert any(b"expert.ratio" in text for name, text in seen.texts.items() if "file" in name)


def test_run_files_are_readable_by_their_owner_only(seen: Seen) -> None:
    """Though the server was started with a umask that lets everybody read."""
    paths = [seen.run, *seen.run.rglob("*")]
    assert len(paths) > 8
    assert {str(path) for path in paths if path.stat().st_mode & 0o077} == set()


# What comes from elsewhere runs no code.

PACKAGES = ("protocol", "config", "agent", "server", "lab", "clients/python", "scripts")

LOADERS = {
    "pickle": {"load", "loads", "Unpickler"},
    "cPickle": {"load", "loads", "Unpickler"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {"load", "unsafe_load", "full_load", "load_all", "Loader", "UnsafeLoader"},
    "torch": {"load"},
    "np": {"load"},
    "numpy": {"load"},
}
"""What can run code that stands in a file. torch's and NumPy's are safe with the right argument."""


def dangers(source: str) -> list[str]:
    """Calls that could run code out of data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in LOADERS:
            names = {alias.name for alias in node.names} & LOADERS[node.module]
            found += [f"line {node.lineno}: from {node.module} import {name}" for name in names]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        arguments = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"):
            found.append(f"line {node.lineno}: {name}")
        if arguments.get("shell") == "True" or arguments.get("allow_pickle") == "True":
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
        module, _, function = name.rpartition(".")
        if function not in LOADERS.get(module, ()):
            continue
        safe = {"torch": {"weights_only": "True"}, "np": {"allow_pickle": "False"}}.get(module, {})
        if not safe or not safe.items() <= arguments.items():
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


THEIRS = {"scripts/rllink_side.py": 1}
"""Calls in what is no part of the product: the bench's client for RLlib, which a Python of its own
runs, gets its configuration as a pickle from the RLlib that it has started itself."""


def test_sources_load_no_pickles() -> None:
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 100
    found = {str(path.relative_to(ROOT)): dangers(path.read_text()) for path in sources}
    assert {name: len(lines) for name, lines in found.items() if lines} == THEIRS


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(data)",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_unsafe_loading_is_detected(source: str) -> None:
    assert dangers(source)
    assert not dangers("torch.load(path, weights_only=True)\nnp.load(path, allow_pickle=False)")


class Evil:
    """Runs something when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("how", ["torch", "pickle", "in a tensor's place", "old torch"])
def test_hostile_checkpoint_executes_nothing(how: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "0000000001.pt"
    evil = Evil(trace)
    content = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "state": evil}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif how == "in a tensor's place":
        state = {"network": {"weight": torch.zeros(3), "bias": evil}}
        torch.save(content | {"state": state}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(checkpoint.CheckpointError, match=re.escape(str(path))):
        checkpoint.load(path)
    assert not trace.exists()
    if how == "torch":
        torch.load(path, weights_only=False)
        assert trace.exists(), "it would have, elsewhere"
