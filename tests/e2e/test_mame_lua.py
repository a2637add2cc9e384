"""The protocol in plain Lua (clients/mame/understudy.lua), in Debian's lua5.4, without MAME: the
golden vectors, what a session does when things go wrong, and a real server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from server.play.attribution import compare, load_dump
from server.play.mame import load_answers
from tests.support.needs import needs
from tests.support.running import Running

TESTS = Path(__file__).parents[1]
CLIENT = TESTS.parent / "clients/mame/understudy.lua"

LUA = shutil.which("lua5.4") or shutil.which("lua5.3")

pytestmark = needs("lua5.4", there=LUA is not None)


def lua(script: str, *args: object) -> list[str]:
    """The lines that a script of tests/support/lua prints; it must succeed."""
    assert LUA is not None
    words = [LUA, str(TESTS / "support/lua" / script), str(CLIENT), *map(str, args)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def literal(value: Any) -> str:
    """A value of the file as Lua: tensors as strings, lists with their length in `n`."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return literal(value.encode())
        case bytes():
            return '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
        case list():
            return f"{{n = {len(value)}, {', '.join(map(literal, value))}}}"
        case {"bin": str(text)}:
            return literal(bytes.fromhex(text))
        case dict():
            items = (f"[{literal(k)}] = {literal(v)}" for k, v in value.items() if v is not None)
            return f"{{{', '.join(items)}}}"
    raise TypeError(type(value))


def test_lua_client_encodes_and_decodes_the_golden_vectors(tmp_path: Path) -> None:
    golden = json.loads((TESTS / "golden/wire.json").read_text())
    spoken = {"HELLO", "FRAME", "PING", "BYE", "WELCOME", "ACTION", "PONG", "ERROR", "SETTINGS"}
    hellos = {v["name"]: v["message"]["fields"] for v in golden["valid"] if v["type"] == "HELLO"}
    lines, names = [], []
    for vector in golden["valid"]:
        ours = vector["from"] == "client"
        if vector["type"] not in spoken or (ours and not vector["canonical"]):
            continue
        fields = vector["message"].get("fields", {})
        if vector["type"] == "HELLO" and fields["slots"] != 1:
            continue  # one MAME is one game
        if vector["type"] == "PING" and isinstance(vector["message"]["nonce"], dict):
            continue  # a nonce of this client is a number
        names.append(vector["name"])
        heads = hellos[f"hello {vector['game']}"]["actions"] if "game" in vector else None
        lines.append(
            literal(
                {
                    "name": vector["name"],
                    "from": vector["from"],
                    "type": vector["type"],
                    "bytes": bytes.fromhex(vector["hex"]),
                    "message": vector["message"],
                    "heads": heads,
                }
            )
        )
    file = tmp_path / "vectors.lua"
    file.write_text("return {\n" + ",\n".join(lines) + "}\n")
    passed = lua("check_golden.lua", file)
    assert len(names) > 20
    for name in names:
        assert any(line.startswith(name) for line in passed), f"{name} was not checked"


def test_lua_client_reconnects_and_gives_up() -> None:
    assert len(lua("check_session.lua")) > 230


def test_person_at_the_controls_of_mame_takes_over_and_gives_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNDERSTUDY_EPISODES", "1")
    assert len(lua("check_person.lua")) == 16


def test_lua_client_log_and_replay_agree_on_every_actor(tmp_path: Path) -> None:
    """The answers as Lua logged them are what the replay holds."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with Running(tmp_path / "run") as server:
        game = socket.create_connection(("127.0.0.1", server.port))
        assert LUA is not None
        with (logs / "answers-0.txt").open("w") as log:
            process = subprocess.Popen(
                [LUA, str(TESTS / "support/lua/play_stdio.lua"), str(CLIENT), "600"],
                stdin=game,
                stdout=game,
                stderr=log,
            )
            game.close()
            assert process.wait(60) == 0, (logs / "answers-0.txt").read_text()[-500:]
        server.settle()
        dump = logs / "replay.npz"
        server.do(lambda: server.supervisor.trainer.dump(str(dump)))
        found = compare(load_answers(logs), load_dump(dump))
    # 12 frames ended an episode.
    assert (found.compared, found.mismatches, found.missing) == (588, 0, 0)
