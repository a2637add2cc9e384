"""The GDScript client: it parses, its bytes are the golden ones, it keeps the rules, and plays.

In a Godot 4 of the PATH where there is one, else in a web build of Godot 4 that runs under Node
(scripts/fetch-godot). That one has no sockets: there, the client's bytes go through a stand-in for
StreamPeerTCP, and what is left untested is that class of Godot's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.foreign import (
    ALL_FORMS,
    FORMS,
    HELLOS,
    ROOT,
    SERVER,
    canonical,
    elements,
    listened,
    packed,
    results,
    same,
)
from tests.support.needs import needs
from tests.support.running import Running

FOLDER = ROOT / "clients/gdscript"
WEB = ROOT / ".godot"
SCRIPTS = sorted([*FOLDER.rglob("*.gd"), *(ROOT / "tests/support/gdscript").glob("*.gd")])
GODOT = shutil.which("godot4") or shutil.which("godot")
NODE = shutil.which("node") if (WEB / "index.wasm").exists() else None

needs_godot = needs("node", "npm", there=bool(GODOT or NODE), fetch="scripts/fetch-godot")
pytestmark = pytest.mark.timeout(120)


def test_gdscript_parses_and_passes_lint() -> None:
    assert len(SCRIPTS) >= 4
    for tool in ("gdparse", "gdlint"):
        program = str(Path(sys.executable).parent / tool)
        done = subprocess.run([program, *SCRIPTS], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def pack_of(files: dict[str, bytes]) -> bytes:
    """The files as a pack of Godot's, format 2: a header, a directory, what is in it."""
    head = b"GDPC" + struct.pack("<IIII", 2, 4, 0, 0) + bytes(12 + 64)
    names = {name: f"res://{name}".encode() for name in files}
    names = {name: path + bytes(-len(path) % 4) for name, path in names.items()}
    at = len(head) + 4 + sum(4 + len(path) + 36 for path in names.values())
    directory, bodies = struct.pack("<I", len(files)), b""
    for name, data in files.items():
        directory += struct.pack("<I", len(names[name])) + names[name]
        directory += struct.pack("<QQ", at + len(bodies), len(data)) + hashlib.md5(data).digest()
        directory += struct.pack("<I", 0)
        bodies += data
    return head + directory + bodies


def project(folder: Path, script: str, **files: str) -> list[str]:
    """Lay out a project whose one node has this script; the command that runs it."""
    sources = {
        "project.godot": 'config_version=5\n[application]\nconfig/name="test"\n'
        'run/main_scene="res://main.tscn"\n',
        "main.tscn": "[gd_scene load_steps=2 format=3]\n\n"
        f'[ext_resource type="Script" path="res://{script}" id="1"]\n\n'
        '[node name="Main" type="Node"]\nscript = ExtResource("1")\n',
        script: (ROOT / "tests/support/gdscript" / script).read_text(),
        "understudy.gd": (FOLDER / "understudy.gd").read_text(),
        "example/reach.gd": (FOLDER / "example/reach.gd").read_text(),
        **{name.replace("__", "."): text for name, text in files.items()},
    }
    if GODOT:
        for name, text in sources.items():
            path = folder / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return [GODOT, "--headless", "--quit-after", "10", "--path", str(folder / "project")]
    pack = folder / "game.pck"
    pack.write_bytes(pack_of({name: text.encode() for name, text in sources.items()}))
    assert NODE is not None
    return [NODE, str(ROOT / "tests/support/gdscript/godot_web.mjs"), str(WEB), str(pack)]


COMMANDS: list[tuple[str, list[str], Any]] = []
"""Name, command, and what the answer must be: hex, or a function that looks at it."""


def _hello(vector: dict[str, Any]) -> Any:
    def check(answer: str) -> None:
        fields = vector["message"]["fields"]
        kind, sent = msgspec.msgpack.decode(bytes.fromhex(answer)[4:])
        assert kind == 1
        assert {"token": None} | sent == fields
        assert ("token" in sent) is (fields["token"] is not None)

    return check


def _means(vector: dict[str, Any]) -> Any:
    def check(answer: str) -> None:
        values = [msgspec.msgpack.decode(bytes.fromhex(one)[4:]) for one in answer.split()]
        assert len(values) == 3, answer
        wanted = elements(vector)
        if vector["type"] == "ACTION":
            wanted[3] = vector["message"]["action"]
        for value in values:
            assert same(value, wanted), value

    return check


def _violates(answer: str) -> None:
    assert answer.startswith("violation "), answer


def _commands() -> list[tuple[str, list[str], Any]]:
    out: list[tuple[str, list[str], Any]] = []
    lander = HELLOS["lander"]
    for vector in canonical("HELLO"):
        words = ["hello", packed(vector["message"]["fields"])]
        out.append((vector["name"], words, _hello(vector)))
    for vector in canonical("FRAME"):
        fields = packed(HELLOS[vector["game"]]["message"]["fields"])
        words = ["frame", fields, packed(list(vector["message"].values()))]
        out.append((vector["name"], words, vector["hex"]))
    [masked] = [v for v in canonical("FRAME") if v["name"] == "frame with a mask"]
    legal = [True, False, True, False, True, False, False, False, False, True]
    frame = packed(list((masked["message"] | {"legal": legal}).values()))
    words = ["frame", packed(HELLOS[masked["game"]]["message"]["fields"]), frame]
    out.append(("a mask of bools", words, masked["hex"]))
    for vector in canonical("FRAMES"):
        words = ["frames", packed(list(vector["message"].values()))]
        out.append((vector["name"], words, vector["hex"]))
    for vector in canonical("PING"):
        if type(vector["message"]["nonce"]) is int:
            words = ["ping", packed(vector["message"]["nonce"])]
            out.append((vector["name"], words, vector["hex"]))
    out += [(vector["name"], ["bye"], vector["hex"]) for vector in canonical("BYE")]
    for vector in SERVER:
        game = packed(HELLOS.get(vector.get("game"), lander)["message"]["fields"])
        for size in (10_000, 1, 7):
            words = ["read", game, str(size), vector["hex"] * 3]
            out.append((f"{vector['name']}, pieces of {size}", words, _means(vector)))
        payload = bytes.fromhex(vector["hex"])[4:]
        for stop in range(1, len(payload)):
            short = (stop.to_bytes(4, "big") + payload[:stop]).hex()
            words = ["read", game, "10000", short]
            out.append((f"{vector['name']}, {stop} bytes of it", words, _violates))
    game = packed(lander["message"]["fields"])

    def all_forms(answer: str) -> None:
        value = msgspec.msgpack.decode(bytes.fromhex(answer)[4:])
        assert value == [14, list(FORMS.values())]

    out.append(("every form", ["read", game, "10000", ALL_FORMS], all_forms))
    for text in ("920e" + "91" * 5000 + "00", "920edfffffffff", "920edd7fffffff", "c1", "9105c0",
                 "920ec1", "05"):  # fmt: skip
        data = (len(text) // 2).to_bytes(4, "big").hex() + text
        out.append((f"no message: {text[:16]}", ["read", game, "10000", data], _violates))
    out.append(("a wild length", ["read", game, "10000", "7fffffff00"], _violates))
    return out


def run(command: Sequence[str], timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@needs_godot
def test_gdscript_encodes_and_decodes_the_golden_vectors(tmp_path: Path) -> None:
    """All in one start of Godot: each takes a second."""
    asked = _commands()
    text = "\n".join(" ".join(words) for _, words, _ in asked)
    done = run(project(tmp_path, "vectors.gd", commands__txt=text))
    answers = [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]
    assert answers[-1:] == ["done"], done.stdout[-2000:] + done.stderr[-2000:]
    assert len(answers) == len(asked) + 1
    assert len(asked) > 300
    wrong = []
    for (name, _, wanted), answer in zip(asked, answers, strict=False):
        if isinstance(wanted, str):
            if answer != wanted:
                wrong.append(f"{name}: expected {wanted}, got {answer}")
            continue
        try:
            wanted(answer)
        except (AssertionError, ValueError, msgspec.DecodeError) as error:
            wrong.append(f"{name}: {error}")
    assert wrong == []
    assert "SCRIPT ERROR" not in done.stderr + done.stdout


def settings(port: int | str, **more: Any) -> str:
    return json.dumps(
        {"host": "127.0.0.1", "port": port, "episodes": 60, "role": "train", "token": "", **more}
    )


@needs_godot
def test_gdscript_game_passes_conformance(tmp_path: Path) -> None:
    def command(port: int) -> list[str]:
        return project(tmp_path, "game.gd", settings__json=settings(port, episodes=10**6))

    findings, output, code = listened(command)
    broken, unseen = results(findings)
    assert broken == {}, output
    # Its game never ends by itself, and plays in the role train.
    never = {"bye", "bye-last", "message_truncated", "expert_missing"}
    without = {"took_on_first_frame", "unknown_actor", "mask_size", "no_legal_choice"}
    without |= {"metrics_shape", "metric_not_finite"}
    assert unseen <= never | without | {"action_illegal"}
    assert code == 1
    assert "bad_hello: conformance" in output
    told = next(line for line in output.splitlines() if line.startswith("> settings "))
    assert json.loads(told.removeprefix("> settings ")).items() >= {
        "start_level": 3, "name": "demo", "level": 5, "another": True
    }.items()  # fmt: skip


@needs_godot
def test_gdscript_game_plays_against_a_real_server(tmp_path: Path, folder: Path) -> None:
    with Running(folder / "gdscript", server__token="open") as server:

        def play(**more: Any) -> subprocess.CompletedProcess[str]:
            text = settings(server.port, **more)
            return run(project(tmp_path, "game.gd", settings__json=text))

        done = play(token="open")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("episode ") == 60
        row = server.settle()
        assert row["episodes"] == 60
        assert row["buffer_dqn"] > 50
        assert row["buffer_expert"] > 50
        assert row["errors"] == 0
        assert play(token="open", role="eval_expert", episodes=3).returncode == 0
        refused = play(token="shut")
        assert refused.returncode == 1
        assert "bad_token" in refused.stdout + refused.stderr
        server.until_row(clients=0)
