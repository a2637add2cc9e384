"""The JavaScript client under node: its bytes are the golden ones, and it plays."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
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
    raw,
    results,
    same,
)
from tests.support.needs import needs
from tests.support.running import Running

NODE = shutil.which("node")
SUPPORT = ROOT / "tests/support/javascript"

pytestmark = [pytest.mark.timeout(120), needs("node")]


def ask(commands: list[dict[str, Any]]) -> list[str]:
    """What the client makes of each, all in one start of node."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(SUPPORT / "vectors.mjs")],
        input="\n".join(map(json.dumps, commands)),
        capture_output=True,
        text=True,
        check=False,
        timeout=90.0,
    )
    answers = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(answers) == len(commands), done.stderr
    return answers


def payload(vector: dict[str, Any]) -> str:
    """What travels in a message of a WebSocket: without the four bytes of length."""
    text: str = vector["hex"][8:]
    return text


def game_of(vector: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = HELLOS[vector.get("game") or "lander"]["message"]["fields"]
    return fields


def test_javascript_encodes_the_golden_vectors() -> None:
    vectors = canonical("FRAME", "FRAMES", "PING", "BYE")
    asked = []
    for vector in vectors:
        message = vector["message"]
        if vector["type"] == "PING":
            message = message["nonce"]
        asked.append({"what": vector["type"].lower(), "game": game_of(vector), "message": message})
    answers = ask(asked)
    wrong = {
        vector["name"]: answer
        for vector, answer in zip(vectors, answers, strict=True)
        if answer != payload(vector)
    }
    assert len(vectors) > 15
    assert wrong == {}


def test_javascript_says_the_golden_hellos() -> None:
    vectors = canonical("HELLO")
    fields = [vector["message"]["fields"] for vector in vectors]
    answers = ask([{"what": "hello", "message": each} for each in fields])
    for each, answer in zip(fields, answers, strict=True):
        kind, sent = msgspec.msgpack.decode(bytes.fromhex(answer))
        assert kind == 1
        assert {"token": None} | sent == each
        assert ("token" in sent) is (each["token"] is not None)


def test_javascript_decodes_the_golden_vectors_and_every_form() -> None:
    asked = [{"what": "read", "game": game_of(v), "bytes": payload(v)} for v in SERVER]
    *answers, forms = ask([*asked, {"what": "read", "bytes": ALL_FORMS[8:]}])
    for vector, answer in zip(SERVER, answers, strict=True):
        wanted = elements(vector)
        if vector["type"] == "ACTION":
            wanted[3] = raw(vector["message"]["action"])
        got = msgspec.msgpack.decode(bytes.fromhex(answer))
        assert same(got, wanted), f"{vector['name']}: {got}"
    assert msgspec.msgpack.decode(bytes.fromhex(forms)) == [14, list(FORMS.values())]


def test_javascript_refuses_what_is_no_message() -> None:
    """Every message cut short anywhere, and bytes that lie about sizes."""
    cut = [
        {"what": "read", "game": game_of(vector), "bytes": payload(vector)[: 2 * stop]}
        for vector in SERVER
        for stop in range(len(payload(vector)) // 2)
    ]
    lies = ["920e" + "91" * 5000 + "00", "920edfffffffff", "920edd7fffffff", "c1", "9105c0",
            "920ec1", "05", "90", "91a161", "920ea2fffe", "920ec6ffffffff"]  # fmt: skip
    asked = [*cut, *({"what": "read", "bytes": text} for text in lies)]
    answers = ask(asked)
    assert len(asked) > 300
    assert [each for each in answers if not each.startswith("ProtocolViolation ")] == []


def test_javascript_refuses_to_send_what_no_server_takes() -> None:
    frame = {"slot": 0, "seq": 0, "obs": [0, 0, 0], "reward": 0, "status": 0, "expert": None,
             "took": None}  # fmt: skip
    wrong: list[dict[str, Any]] = [
        {"obs": [0, 0]},
        {"expert": [1]},
        {"expert": [2, 0.5]},
        {"expert": [0.5, 0.5]},
        {"took": [[-1, 0.5], 2]},
        {"reward": "much"},
    ]
    game = game_of({})
    answers = ask([{"what": "frame", "game": game, "message": frame | each} for each in wrong])
    assert [each.split()[0] for each in answers] == ["RangeError"] * len(wrong)
    assert ask([{"what": "frame", "game": game, "message": frame}])[0].startswith("98")


def test_javascript_packs_masks_and_refuses_those_of_another_size() -> None:
    [vector] = [v for v in canonical("FRAME") if v["name"] == "frame with a mask"]
    legal = [True, False, True, False, True, False, False, False, False, True]
    asked = [
        {"what": "frame", "game": game_of(vector), "message": vector["message"] | {"legal": each}}
        for each in (legal, legal[1:])
    ]
    right, wrong = ask(asked)
    assert right == payload(vector)
    assert wrong == "RangeError legal: expected 1 x 10 booleans, got 9"


def play(url: str, **options: Any) -> list[str]:
    """The words of the command that plays there."""
    text = json.dumps({"url": url, "episodes": 20, "slots": 2, **options})
    assert NODE is not None
    # Browsers have WebSockets; node had them behind this option until version 22.
    return [NODE, "--no-warnings", "--experimental-websocket", str(SUPPORT / "play.mjs"), text]


def played(url: str, **options: Any) -> str:
    done = subprocess.run(
        play(url, **options), capture_output=True, text=True, check=False, timeout=100.0
    )
    assert done.stderr == ""
    return done.stdout


def test_javascript_game_plays_against_a_real_server(folder: Path) -> None:
    """Slots one by one and all at once, the exam, and a wrong token."""
    settings: dict[str, Any] = {"server__token": "open", "trainer__max_lag_updates": "none"}
    with Running(folder / "javascript", server__websocket_port=0, **settings) as server:
        url = f"ws://127.0.0.1:{server.supervisor.websocket_port}"
        # Both slots may end an episode in the round that ends it.
        assert re.search(r"^2[01] episodes$", played(url, token="open"), re.MULTILINE)
        assert "episodes" in played(url, token="open", all=True, slots=3)
        row = server.settle()
        assert row["episodes"] >= 40
        assert row["buffer_dqn"] > 20
        assert row["buffer_expert"] > 20
        assert row["errors"] == 0
        assert "3 episodes" in played(url, token="open", role="eval", slots=1, episodes=3)
        assert "ServerError bad_token: " in played(url, token="shut")


def test_javascript_client_without_a_server_gives_up_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = played(f"ws://127.0.0.1:{port}", giveUpS=0.5)
    assert said.startswith(f"ConnectionLost no understudy server at ws://127.0.0.1:{port}: ")
    assert "may this page connect" in said


@pytest.mark.parametrize("all_slots", [False, True])
def test_javascript_game_passes_conformance(all_slots: bool) -> None:
    def command(port: int) -> list[str]:
        return play(f"ws://127.0.0.1:{port}", episodes=10**6, all=all_slots)

    findings, output, code = listened(command, websocket=True)
    broken, unseen = results(findings)
    assert broken == {}, output
    # Its game never ends by itself, and plays in the role train.
    never = {"bye", "bye-last", "message_truncated", "expert_missing"}
    without = {"took_on_first_frame", "unknown_actor", "mask_size", "no_legal_choice"}
    without |= {"metrics_shape", "metric_not_finite"}
    assert unseen <= never | without | {"action_illegal"}
    assert code == 1
    assert "ServerError bad_hello: conformance" in output
