"""The C# client: its bytes against the golden vectors, its game against live servers.

Compiled by Mono's compiler, as C# 7, without any package.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.fake_server import FakeServer, Peer
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

CLIENT = ROOT / "clients/csharp/Understudy.cs"

pytestmark = [
    pytest.mark.timeout(120),
    needs("mcs", "mono"),
]


def compiled(out: Path, *sources: Path) -> Path:
    """An executable of the client and these sources; a warning is an error."""
    command = ["mcs", "-langversion:7.2", "-warn:4", "-warnaserror", f"-out:{out}"]
    done = subprocess.run(
        [*command, str(CLIENT), *map(str, sources)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Vectors:
    """A process that encodes and decodes with the client, a line at a time."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            ["mono", str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *words: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vectors]:
    out = tmp_path_factory.mktemp("csharp") / "vectors.exe"
    asked = Vectors(compiled(out, ROOT / "tests/support/csharp/Vectors.cs"))
    yield asked
    asked.process.communicate(timeout=10)
    assert asked.process.returncode == 0


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("csharp") / "reach.exe"
    return compiled(out, ROOT / "clients/csharp/example/Reach.cs")


@pytest.mark.parametrize("vector", canonical("HELLO"), ids=lambda v: v["name"])
def test_csharp_hello_equals_the_golden_vector(vectors: Vectors, vector: dict[str, Any]) -> None:
    fields = vector["message"]["fields"]
    kind, sent = msgspec.msgpack.decode(bytes.fromhex(vectors.ask("hello", packed(fields)))[4:])
    assert kind == 1
    left_out = {"rewards": ["reward"], "slots": 1, "token": None, "role": "train"}
    assert left_out | sent == fields
    assert ("token" in sent) is (fields["token"] is not None)


@pytest.mark.parametrize("vector", canonical("FRAME"), ids=lambda v: v["name"])
def test_csharp_frame_encodes_to_the_golden_bytes(vectors: Vectors, vector: dict[str, Any]) -> None:
    fields = packed(HELLOS[vector["game"]]["message"]["fields"])
    frame = packed(list(vector["message"].values()))
    assert vectors.ask("frame", fields, frame) == vector["hex"]


@pytest.mark.parametrize("vector", canonical("FRAMES"), ids=lambda v: v["name"])
def test_csharp_frames_encode_to_the_golden_bytes(vectors: Vectors, vector: dict[str, Any]) -> None:
    assert vectors.ask("frames", packed(list(vector["message"].values()))) == vector["hex"]


def test_csharp_packs_masks(vectors: Vectors) -> None:
    game = packed(HELLOS["puzzle"]["message"]["fields"])
    legal = [True, False, True, False, True, False, False, False, False, True]
    assert vectors.ask("mask", game, packed(legal), "1") == "1502"
    assert vectors.ask("mask", game, packed([False] * 10 + legal), "2") == "00001502"


def test_csharp_ping_and_bye_encode_to_the_golden_bytes(vectors: Vectors) -> None:
    [ping] = [v for v in canonical("PING") if type(v["message"]["nonce"]) is int]
    assert vectors.ask("ping", packed(ping["message"]["nonce"])) == ping["hex"]
    [bye] = canonical("BYE")
    assert vectors.ask("bye") == bye["hex"]


@pytest.mark.parametrize("vector", SERVER, ids=lambda v: v["name"])
@pytest.mark.parametrize("size", [10_000, 1, 7])
def test_csharp_decodes_golden_server_messages(
    vectors: Vectors, vector: dict[str, Any], size: int
) -> None:
    got = vectors.ask("read", str(size), vector["hex"] * 3).split()
    values = [msgspec.msgpack.decode(bytes.fromhex(one)[4:]) for one in got]
    assert len(values) == 3
    for value in values:
        assert same(value, elements(vector)), value


@pytest.mark.parametrize("vector", SERVER, ids=lambda v: v["name"])
def test_csharp_refuses_truncated_server_messages(vectors: Vectors, vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["hex"])[4:]
    for stop in range(1, len(payload)):
        short = stop.to_bytes(4, "big") + payload[:stop]
        assert vectors.ask("read", "10000", short.hex()).startswith("violation "), stop


@pytest.mark.parametrize(
    "text",
    ["920ea2fffe", "920e" + "91" * 5000 + "00", "920edfffffffff", "920edd7fffffff", "c1", "9105c0"],
    ids=["utf-8", "deep", "a long map", "a long array", "never used", "two values"],
)
def test_csharp_refuses_invalid_messages(vectors: Vectors, text: str) -> None:
    data = (len(text) // 2).to_bytes(4, "big").hex() + text
    assert vectors.ask("read", "10000", data).startswith("violation ")
    assert vectors.ask("read", "10000", "7fffffff00").startswith("violation ")


def test_csharp_reads_every_msgpack_form(vectors: Vectors) -> None:
    for size in ("10000", "1"):
        got = vectors.ask("read", size, ALL_FORMS)
        assert msgspec.msgpack.decode(bytes.fromhex(got)[4:]) == [14, list(FORMS.values())]


def test_csharp_announces_its_episodes_and_plays_none_again_that_was_cut(reach: Path) -> None:
    announced, over = [], [False]

    def script(peer: Peer) -> None:
        announced.append(peer.welcome(session=len(announced) + 1)[1].get("episodes"))
        while (message := peer.recv()) is not None and message != [5]:
            under_way = message[0] == 2 and message[2] > 0 and not over[-1]
            if len(announced) == 1 and under_way and sum(over) == 1:
                peer.send([15, "episode_limit", "too long", True])
                return
            over.append(message[0] == 2 and message[5] != 0)
            peer.answer(message, [1, 0.0], 1)

    server = FakeServer(script)
    try:
        done = subprocess.run(
            ["mono", str(reach), "127.0.0.1", str(server.port), "4", "eval"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        server.close()
    assert done.returncode == 0, done.stderr
    # The second one was under way, however long the first was.
    assert announced == [4, 2]
    assert done.stdout.count("return") == 3


def test_csharp_game_passes_conformance(reach: Path) -> None:
    findings, output, code = listened(
        lambda port: ["mono", str(reach), "127.0.0.1", str(port), "100000"]
    )
    broken, unseen = results(findings)
    assert broken == {}, output
    # Its game never ends by itself, and plays in the role train.
    assert unseen <= {
        "bye",
        "bye-last",
        "message_truncated",
        "expert_missing",
        "took_on_first_frame",
        "unknown_actor",
        "mask_size",
        "metrics_shape",
        "metric_not_finite",
        "no_legal_choice",
        "action_illegal",
    }
    assert code == 1
    assert "the server refused (bad_hello): conformance" in output


def test_csharp_game_plays_against_a_real_server(reach: Path, folder: Path) -> None:
    with Running(folder / "csharp", server__token="open") as server:

        def play(*args: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["mono", str(reach), "127.0.0.1", str(server.port), *args],
                capture_output=True, text=True, timeout=90, check=False,
            )  # fmt: skip

        done = play("60", "train", "open")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("episode ") == 60
        row = server.settle()
        assert row["episodes"] == 60
        assert row["buffer_dqn"] > 50
        assert row["buffer_expert"] > 50
        done = play("3", "eval_expert", "open")
        assert (done.returncode, done.stderr) == (0, "")
        assert "-" in done.stdout
        done = play("3", "train", "shut")
        assert done.returncode == 1
        assert "bad_token" in done.stderr
        assert server.settle()["errors_bad_token"] == 1
