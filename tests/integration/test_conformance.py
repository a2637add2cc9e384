"""`understudy conformance`: our server and clients pass; whoever breaks a rule is told which."""

# ruff: noqa: ARG002 - a faulty peer overrides a step and leaves it out

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from protocol.errors import CODES
from server import cli
from server.conformance import acts, client_connection, listen
from server.conformance.acts import ACTS, ENDINGS
from server.conformance.answers import long_form, plain
from server.conformance.cases import CASES
from server.conformance.connect import check_server, first_welcome
from server.conformance.listen import ClientCheck
from server.conformance.report import BROKEN, KEPT, UNSEEN, RuleResult, as_json, as_table, passed
from server.conformance.rules import RULES
from server.conformance.server_under_test import ServerUnderTest
from server.conformance.violations import HELLOS, VIOLATIONS, violations
from tests.support import certificates
from tests.support.commands import in_this_process
from tests.support.faulty_peers import EXPERT, Bend, Closed, RawGame, bent, changed
from tests.support.preloaded import Understudy
from tests.support.running import RawClient, Running, framed, obs_of
from understudy_client import Client, Continuous, Discrete, Observation, Reconnected, ServerError

ROOT = Path(__file__).parents[2]
SPEC_TEXT = (ROOT / "protocol/SPEC.md").read_text()
TOKEN = "open sesame"

pytestmark = pytest.mark.timeout(120)


def broken(findings: list[RuleResult]) -> dict[str, str]:
    return {finding.name: finding.detail for finding in findings if finding.result == BROKEN}


def named(findings: list[RuleResult], result: str) -> set[str]:
    return {finding.name for finding in findings if finding.result == result}


# What is checked, against the specification.


def test_every_rule_names_a_heading_of_the_specification() -> None:
    titles = set(re.findall(r"^#+ `?([^`\n]+)`?$", SPEC_TEXT, re.MULTILINE))
    rules = {case.section for case in CASES} | {rule.section for rule in RULES} | {"Errors"}
    assert rules <= titles


def test_rule_names_are_unique() -> None:
    for names in ([case.name for case in CASES], [rule.name for rule in RULES]):
        assert len(set(names)) == len(names)
    tried = [(m.code, m.name) for m in violations(ServerUnderTest(("", 0), 1.0))]
    assert len(set(tried)) == len(tried)


def test_every_error_code_is_provoked_or_listed_as_not_provokable() -> None:
    tried = {violation.code for violation in VIOLATIONS} | {code for _, code, _ in HELLOS}
    tried |= {"hello_twice", "bad_token", "handshake_timeout", "message_truncated"}
    late = {"idle_timeout", "slow_reader", "too_many_clients", "server_stopping", "welcome_first"}
    late |= {"tls_failed", "bad_origin", "too_many_attempts", "too_fast", "episode_limit"}
    assert tried | late == set(CODES)
    assert not tried & late


def test_every_act_and_every_client_error_code_has_a_rule() -> None:
    names = {rule.name for rule in RULES}
    assert {*ACTS, *ENDINGS} <= names
    servers = {
        "handshake_timeout", "idle_timeout", "slow_reader", "too_many_clients", "server_stopping",
        "bad_token", "bad_origin", "tls_failed", "too_many_attempts", "too_fast",
        "episode_limit", "no_such_policy",
    }  # fmt: skip
    assert names >= set(CODES) - servers


def test_long_form_of_a_value_decodes_to_the_same_value() -> None:
    value = [12, 0, 70_000, [1, -1.0, [0.1, 0.5]], None, True, -5, "ü", b"\x00", {"a": {"b": 1}}]
    assert msgspec.msgpack.decode(long_form(value)[4:]) == msgspec.msgpack.decode(plain(value)[4:])
    assert len(long_form(value)) > len(plain(value)) + 30


# Servers.


USES = 8
"""Tests that one server serves: each says a wrong token or two, and after 20 within a minute a
server hears this address no more."""


@pytest.fixture(scope="module")
def lend(folder: Path) -> Iterator[Callable[[], Running]]:
    lent: list[Running] = []
    uses = itertools.count()
    with contextlib.ExitStack() as stack:

        def one() -> Running:
            if next(uses) % USES == 0:
                path = folder / f"conformance-{len(lent)}"
                running = Running(
                    path,
                    server__handshake_timeout_s=0.5,
                    server__token=TOKEN,
                    server__websocket_port=0,
                )
                lent.append(stack.enter_context(running))
                first_welcome(ServerUnderTest(("127.0.0.1", running.port), 30.0, TOKEN))
            return lent[-1]

        yield one


@pytest.fixture
def server(lend: Callable[[], Running]) -> Running:
    return lend()


def under_test(port: int, **more: Any) -> ServerUnderTest:
    return ServerUnderTest(("127.0.0.1", port), 0.4, TOKEN, **more)


def test_own_server_passes_every_rule(server: Running) -> None:
    subject = ServerUnderTest(("127.0.0.1", server.port), 15.0, TOKEN, patience_s=15.0)
    findings = check_server(subject)
    assert broken(findings) == {}
    assert named(findings, UNSEEN) == set()
    assert len(findings) == len(CASES) + len(violations(subject)) + 1
    assert passed(findings)


def test_own_server_passes_every_rule_over_websockets(server: Running) -> None:
    """All but what a WebSocket cannot say: that the first bytes are another protocol's."""
    port = server.supervisor.websocket_port
    assert port is not None
    subject = ServerUnderTest(("127.0.0.1", port), 15.0, TOKEN, patience_s=15.0, websocket=True)
    findings = check_server(subject)
    assert broken(findings) == {}
    assert named(findings, UNSEEN) == {"not_understudy"}
    assert passed(findings)


def test_port_without_websockets_is_told_apart(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["conformance", "--connect", f"127.0.0.1:{server.port}", "--websocket"]
    assert cli.main([*where, "--token", TOKEN]) == 2
    assert "expected the server to open a WebSocket" in capsys.readouterr().err


def twice(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
    return [framed(message)] * 2 if message[0] == 12 else None


def mute_pong(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
    return [] if message[0] == 14 else None


def one_session(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
    return [framed([11, message[1] | {"session": 1}])] if message[0] == 11 else None


def seq_of_episode(message: list[Any], memory: dict[str, Any]) -> list[bytes] | None:
    """Counts from 0 in each episode."""
    if message[0] != 12:
        return None
    base = memory.setdefault("base", {}).setdefault(message[1], 0)
    if message[3] is None:
        memory["base"][message[1]] = message[2] + 1
    return [framed([12, message[1], message[2] - base, *message[3:]])]


def wordless(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
    if message[0] == 15:
        raise OSError("closed without a word")
    return None


def always_expert(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
    """Says of the network's actions that they are the expert's."""
    if message[0] != 12 or message[3] is None:
        return None
    return [framed([*message[:4], 2, message[5], False])]


def in_one_piece(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
    """Wrong length prefix: little-endian."""
    data = framed(message)
    return [data[:4][::-1] + data[4:]]


SERVERS: list[tuple[str, Bend, set[str]]] = [
    ("another seq", changed(12, 2, lambda seq: seq + 1), {"game", "exactly-one", "slots"}),
    ("another slot", changed(12, 1, lambda slot: slot + 1), {"game", "slots-wait"}),
    ("two answers", twice, {"exactly-one"}),
    ("no pong", mute_pong, {"ping", "ping-early", "exactly-one", "glued"}),
    ("pong with another nonce", changed(14, 1, lambda _: 0), {"ping", "long"}),
    ("one session for all", one_session, {"reconnect"}),
    ("welcome without settings", changed(11, 1, lambda m: {k: m[k] for k in m if k != "settings"}),
     {"game"}),
    ("seq of the episode", seq_of_episode, {"episodes", "slots"}),
    ("a tag of nobody", changed(12, 4, lambda _: 0), {"game", "eval", "eval-expert"}),
    ("always the expert", always_expert, {"dqn-alone", "eval"}),
    ("explored as a number", changed(12, 6, int), {"game"}),
    ("an action for a last frame", changed(12, 3, lambda a: a or [0, 0.0, [0.0, 0.0]]),
     {"game", "episodes"}),
    ("a choice as a float", changed(12, 3, lambda a: a and [float(a[0]), *a[1:]]), {"game"}),
    ("masks that are ignored", changed(12, 3, lambda a: a and [0, *a[1:]]), {"legal"}),
    ("masks that are ignored in FRAMES",
     changed(13, 2, lambda rows: rows.replace(b"\x00\x00\x80?", bytes(4))), {"legal-frames"}),
    ("out of range", changed(12, 3, lambda a: a and [a[0], 1.5, a[2]]), {"game", "dqn-alone"}),
    ("rows without NaN", changed(13, 2, lambda b: b.replace(b"\x00\x00\xc0\x7f", bytes(4))),
     {"frames"}),
    ("another code", changed(15, 1, lambda code: code.replace("seq_", "sequence_")),
     {"seq_out_of_order"}),
    ("always retry", changed(15, 3, lambda _: True), {"bad_hello", "frame_before_answer"}),
    ("no word", wordless, {"unknown_slot", "took_on_first_frame"}),
    ("a small last length", in_one_piece, {"game", "split"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("bend", "names"), [case[1:] for case in SERVERS], ids=[case[0] for case in SERVERS]
)
def test_server_that_breaks_a_rule_gets_that_rule_named(
    server: Running, bend: Bend, names: set[str]
) -> None:
    with bent(server.port, bend) as port:
        findings = check_server(under_test(port))
    assert not passed(findings)
    assert names <= broken(findings).keys()
    for detail in broken(findings).values():
        assert "expected" in detail


def test_server_findings_blame_no_rule_that_was_kept(tmp_path: Path) -> None:
    """With time enough on both sides: a machine that is busy breaks no rule."""

    def findings(bend: Bend) -> list[RuleResult]:
        with bent(patient.port, bend) as port:
            return check_server(ServerUnderTest(("127.0.0.1", port), 20.0, TOKEN))

    with Running(
        tmp_path / "run", server__handshake_timeout_s=60.0, server__token=TOKEN
    ) as patient:
        first_welcome(ServerUnderTest(("127.0.0.1", patient.port), 30.0, TOKEN))
        assert "frames" in named(findings(twice), KEPT)
        told = broken(findings(changed(13, 3, lambda _: b"\x00\x00")))
        assert told.keys() <= {"frames", "legal-frames", "mixed_frames", "unknown_actor"}
        assert broken(findings(lambda _m, _s: None)) == {}


def test_server_that_never_closes_is_reported(server: Running) -> None:
    with bent(server.port, lambda _m, _s: None, keep_open=True) as port:
        subject = ServerUnderTest(("127.0.0.1", port), 0.03, TOKEN)
        findings = check_server(subject)
    assert {"game", "bye-glued", "hello_twice"} <= broken(findings).keys()


# The command.


@certificates.needs_openssl
@pytest.mark.timeout(240)
def test_server_with_tls_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair, other = (certificates.make(tmp_path / name) for name in ("own", "other"))
    with Running(
        tmp_path / "run", server__handshake_timeout_s=0.5, server__token=TOKEN,
        server__tls_cert=str(pair.cert), server__tls_key=str(pair.key),
    ) as encrypted:  # fmt: skip
        encrypted.until(lambda: encrypted.supervisor.status.ready, "it shakes hands", 90.0)
        where = ("--connect", f"127.0.0.1:{encrypted.port}", "--token", TOKEN)
        code, out, _ = in_this_process("conformance", *where, "--ca", str(pair.cert), "--json")
        report = json.loads(out)
        assert (code, report["broken"]) == (0, 0), report
        (left,) = (rule for rule in report["rules"] if rule["result"] == UNSEEN)
        assert (left["name"], "TLS cannot end" in left["detail"]) == ("half", True)
        assert cli.main(["conformance", *where, "--ca", str(other.cert)]) == 2
        assert "is not trusted" in capsys.readouterr().err
        assert cli.main(["conformance", *where]) == 2
        assert "give --tls" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "0", "--tls"], "are for --connect"),
        (["--listen", "0", "--token", "a"], "are for --connect"),
        (["--connect", "127.0.0.1:1", "--ca", "no-such.pem"], "cannot use no-such.pem"),
    ],
)
def test_conformance_options_that_conflict_are_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["conformance", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("understudy conformance: ")
    assert words in line


def test_conformance_command_prints_findings_of_a_server(server: Running) -> None:
    where = ("conformance", "--connect", f"127.0.0.1:{server.port}", "--token", TOKEN)
    code, out, _ = in_this_process(*where, "--wait", "0", "--json")
    report = json.loads(out)
    assert (code, report["passed"], report["broken"]) == (0, True, 0)
    assert report["not_exercised"] == 1
    (left,) = (rule for rule in report["rules"] if rule["result"] == UNSEEN)
    assert left["name"] == "deadline"
    with bent(server.port, twice) as port:
        code, out, _ = in_this_process(
            "conformance", "--connect", f"127.0.0.1:{port}", "--token", TOKEN, "--wait", "0",
            "--timeout", "1",
        )  # fmt: skip
    assert code == 1
    assert re.search(r"^  BROKEN  exactly-one", out, re.MULTILINE), out
    assert out.splitlines()[-1].endswith("FAILED")


def test_server_that_accepts_no_client_gives_no_result(server: Running) -> None:
    address = f"127.0.0.1:{server.port}"
    code, _, errors = in_this_process("conformance", "--connect", address, "--token", "wrong")
    assert code == 2
    assert "--token" in errors
    code, _, errors = in_this_process("conformance", "--connect", "127.0.0.1:1")
    assert code == 2
    assert errors.startswith("understudy conformance: the server at 127.0.0.1:1: ")


def test_report_lists_every_rule_and_fails_if_nothing_was_seen() -> None:
    findings = [
        RuleResult("a", "Framing", "first", KEPT),
        RuleResult("b", "Errors", "other", UNSEEN),
    ]
    findings += [RuleResult("c", "Framing", "third", BROKEN, "expected x, got y")]
    text = as_table("it", findings)
    assert text.index("Framing") < text.index("third") < text.index("Errors")
    assert "expected x, got y" in text
    assert json.loads(as_json("it", findings))["rules"][2]["detail"] == "expected x, got y"
    assert not passed(findings)
    assert passed(findings[:2])
    assert not passed(findings[1:2])
    assert not passed([])


# Clients.


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "LATE_WELCOME_S", 0.1)
    monkeypatch.setattr(acts, "LATE_S", 0.1)
    monkeypatch.setattr(client_connection, "BYE_S", 0.5)
    monkeypatch.setattr(listen, "FINAL_S", 0.5)
    monkeypatch.setattr(listen, "MAX_FAILURES", 3)


def checked(client: Callable[[int], Any], timeout_s: float = 0.6) -> list[RuleResult]:
    check = ClientCheck(("127.0.0.1", 0), frames=8, timeout_s=timeout_s, show=lambda _text: None)
    game = client(check.port)
    try:
        return check.run()
    finally:
        game.thread.join(10.0)
        assert not game.thread.is_alive()


NEVER_BY_ITSELF = {"bye", "bye-last", "message_truncated", "expert_missing"}
"""What a client in the role train that is never done cannot show."""

WITHOUT_MASKS = {"mask_size", "no_legal_choice", "action_illegal"}
WITHOUT_METRICS = {"metrics_shape", "metric_not_finite"}
"""What a client of a game without masks cannot show."""


def test_raw_client_passes_every_rule() -> None:
    findings = checked(RawGame, 5.0)
    assert broken(findings) == {}
    assert named(findings, UNSEEN) == NEVER_BY_ITSELF | WITHOUT_MASKS | WITHOUT_METRICS


class Library:
    """Our own client, until it is refused for good."""

    def __init__(self, port: int, *, vectorized: bool, role: str) -> None:
        self.port, self.vectorized, self.role = port, vectorized, role
        self.refusal = ""
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        slots = 3 if self.vectorized else 1
        try:
            with Client.connect(
                "127.0.0.1", self.port, client="library/1", game="library",
                observation=Observation("float32", (3,)),
                actions=[Discrete("fire", 3), Continuous("turn", -1.0, 1.0, 2)],
                slots=slots, role=self.role, masks=True, metrics=["coins"],
            ) as client:  # fmt: skip
                tick = 0
                while True:
                    status = int(tick == 7)
                    try:
                        if self.vectorized:
                            client.act_all(
                                np.zeros((slots, 3)), np.zeros(slots), np.full(slots, status),
                                np.tile([1.0, 0.5, -0.5], (slots, 1)),
                                (np.ones((slots, 3)), np.full(slots, 2)) if tick == 3 else None,
                                np.tile([False, True, True], (slots, 1)),
                                np.full((slots, 1), tick),
                            )  # fmt: skip
                        else:
                            client.ping()
                            took = ([2, [0.0, 1.0]], 2) if tick == 3 else None
                            legal = [False, True, True]
                            told = {"coins": tick}
                            client.act(
                                [0, 1, 2],
                                0.5,
                                status,
                                [1, [0.5, -0.5]],
                                took,
                                legal=legal,
                                metrics=told,
                            )
                    except Reconnected:
                        tick = 0
                        continue
                    tick = 0 if status else tick + 1
        except ServerError as error:
            self.refusal = error.code


@pytest.mark.parametrize(("vectorized", "role"), [(False, "train"), (True, "eval_expert")])
def test_own_client_passes_every_rule(vectorized: bool, role: str) -> None:
    games = []

    def client(port: int) -> Library:
        games.append(Library(port, vectorized=vectorized, role=role))
        return games[0]

    findings = checked(client, 5.0)
    assert broken(findings) == {}
    left = NEVER_BY_ITSELF - ({"expert_missing"} if role == "eval_expert" else set())
    assert named(findings, UNSEEN) == left
    assert games[0].refusal == "bad_hello"


class Done(RawGame):
    """Says BYE after some frames, and does not come back."""

    def play(self) -> None:
        self.seq = self.tick = 0
        for _ in range(12):
            self.step()
        self.goodbye()
        raise Closed([15, "", "", False])

    def goodbye(self) -> None:
        self.wire.send([5])


def test_client_that_leaves_early_passes_the_rules_it_was_shown() -> None:
    findings = checked(Done)
    assert broken(findings) == {}
    assert {"bye", "bye-last", "split"} <= named(findings, KEPT)
    assert {"cut", "error-retry", "late-answer"} <= named(findings, UNSEEN)


class FrameAfterBye(Done):
    def goodbye(self) -> None:
        self.wire.send([5], self.frame(0))


class NoBye(Done):
    def goodbye(self) -> None:
        """Just goes."""


class HalfAMessage(Done):
    def goodbye(self) -> None:
        self.wire.raw(framed(self.frame(0))[:-3])


class TwoFrames(RawGame):
    def step(self) -> None:
        self.wire.send(self.frame(0))
        self.seq += 1
        self.wire.send(self.frame(0))
        self.seq += 1
        self.answer(12)
        self.answer(12)


class Impatient(RawGame):
    """Sends the frame again when the answer takes its time."""

    def step(self) -> None:
        self.wire.sock.settimeout(0.05)
        try:
            super().step()
        except TimeoutError:
            self.wire.send(self.frame(0))
            self.wire.sock.settimeout(3.0)
            self.answer(12)


class SeqOfEpisode(RawGame):
    def step(self) -> None:
        super().step()
        if self.tick == 0:
            self.seq = 0


class SeqGoesOn(RawGame):
    """Counts on over connections."""

    total = 0

    def play(self) -> None:
        self.tick = 0
        self.seq = self.total
        while True:
            self.step()
            SeqGoesOn.total = self.seq


class SeqFromOne(RawGame):
    def frame(self, status: int) -> list[Any]:
        message = super().frame(status)
        message[2] += 1
        return message


class BeforeWelcome(RawGame):
    def begin(self) -> None:
        self.wire.send([1, self.hello()], [2, 0, 0, obs_of(1.0), 0.5, 0, EXPERT, None])
        self.answer(11)


class LittleEndian(RawGame):
    def begin(self) -> None:
        data = framed([1, self.hello()])
        self.wire.raw(data[:4][::-1] + data[4:])
        self.answer(11)


class BadHello(RawGame):
    def hello(self) -> dict[str, Any]:
        return super().hello() | {"actions": [["discrete", "fire", 1]]}


class OtherGame(RawGame):
    def hello(self) -> dict[str, Any]:
        if hasattr(self, "seq"):
            return super().hello() | {"game": "raw-2"}
        return super().hello()


class Element(RawGame):
    """Says something else in one place of a frame."""

    place, instead, at = 3, b"", 2

    def frame(self, status: int) -> list[Any]:
        message = super().frame(status)
        if self.tick == self.at:
            message[self.place] = self.instead
        return message


def element(place: int, instead: Any, at: int = 2) -> type[Element]:
    return type("Element", (Element,), {"place": place, "instead": instead, "at": at})


class Masked(Element):
    """Plays a game with masks, and says something else in one of its frames."""

    place = 8

    def hello(self) -> dict[str, Any]:
        return super().hello() | {"masks": True}

    def frame(self, status: int) -> list[Any]:
        message = [*RawGame.frame(self, status), b"\x06"]  # what EXPERT does, and choice 2
        if self.tick == self.at:
            message[self.place] = self.instead
        return message


def masked(place: int, instead: Any) -> type[Masked]:
    return type("Masked", (Masked,), {"place": place, "instead": instead})


class Counted(Element):
    """Tells numbers of its game, and something else in one of its frames."""

    def hello(self) -> dict[str, Any]:
        return super().hello() | {"metrics": ["coins"]}

    def frame(self, status: int) -> list[Any]:
        told = self.instead if self.tick == self.at else [3]
        return [*RawGame.frame(self, status), None, told]


def counted(instead: Any) -> type[Counted]:
    return type("Counted", (Counted,), {"instead": instead})


class DiesOfSettings(RawGame):
    """Takes every message for its answer, and goes."""

    def other(self, message: list[Any]) -> None:
        self.wire.close()
        raise Closed([15, "", "", False])


class OneRead(RawGame):
    """Takes what one read gives for a message."""

    def answer(self, kind: int) -> list[Any]:
        data = self.wire.sock.recv(65536)
        if len(data) < 4 or len(data) != 4 + int.from_bytes(data[:4], "big"):
            self.wire.close()
            raise Closed([15, "", "", False])
        self.wire.sock.setblocking(True)
        return []


class DiesOfNil(RawGame):
    def answer(self, kind: int) -> list[Any]:
        message = super().answer(kind)
        if kind == 12 and message[3] is None:
            self.wire.close()
            raise Closed([15, "", "", False])
        return message


class HangsAtTheEnd(RawGame):
    """Waits for an action behind the last frame of an episode."""

    def answer(self, kind: int) -> list[Any]:
        message = super().answer(kind)
        while kind == 12 and message[3] is None:
            message = super().answer(kind)
        return message


class NeverBack(RawGame):
    def again(self, error: list[Any] | None) -> bool:
        return False

    def run(self) -> None:
        try:
            self.wire = RawClient(self.port)
            self.begin()
            self.play()
        except (Closed, OSError):
            self.wire.close()


class AtOnce(RawGame):
    def longer(self, wait: float) -> float:
        return 0.0


class SameWait(RawGame):
    """Waits always alike, or a little less."""

    waited = 0.2

    def longer(self, wait: float) -> float:
        self.waited *= 0.8
        return self.waited


class Stubborn(RawGame):
    """Comes back whatever it is told."""

    def again(self, error: list[Any] | None) -> bool:
        return True


CLIENTS: list[tuple[type[RawGame], str]] = [
    (FrameAfterBye, "bye-last"),
    (NoBye, "glued"),
    (HalfAMessage, "message_truncated"),
    (TwoFrames, "frame_before_answer"),
    (Impatient, "frame_before_answer"),
    (SeqOfEpisode, "seq-across-episodes"),
    (SeqGoesOn, "seq_out_of_order"),
    (SeqFromOne, "seq_out_of_order"),
    (BeforeWelcome, "welcome_first"),
    (LittleEndian, "message_too_long"),
    (BadHello, "bad_hello"),
    (OtherGame, "spec_mismatch"),
    (element(0, 9), "unknown_type"),
    (element(1, 5), "unknown_slot"),
    (element(3, b"\x00" * 24), "observation_size"),
    (element(3, obs_of(float("nan"))), "observation_not_finite"),
    (element(4, [0.5, 0.5]), "reward_shape"),
    (element(4, float("inf")), "reward_not_finite"),
    (element(5, 3), "unknown_status"),
    (element(5, 1.0), "message_malformed"),
    (element(6, [1]), "action_shape"),
    (element(6, [3, 0.0]), "action_out_of_range"),
    (element(7, [EXPERT, 3]), "unknown_actor"),
    (element(7, [[1, 1.5], 2]), "action_out_of_range"),
    (element(7, [EXPERT, 2], at=0), "took_on_first_frame"),
    (masked(8, b"\x06\x00"), "mask_size"),
    (masked(8, b"\x00"), "no_legal_choice"),
    (masked(6, [0, 0.5]), "action_illegal"),
    (counted([1, 2]), "metrics_shape"),
    (counted([float("inf")]), "metric_not_finite"),
    (masked(7, [[0, 0.5], 2]), "action_illegal"),
    (DiesOfSettings, "glued"),
    (OneRead, "late-welcome"),
    (DiesOfNil, "last-frame"),
    (HangsAtTheEnd, "last-frame"),
    (NeverBack, "cut"),
    (AtOnce, "backoff"),
    (SameWait, "backoff-grows"),
    (Stubborn, "error-final"),
]


@pytest.mark.parametrize(
    ("client", "rule"), CLIENTS, ids=[f"{c.__name__}-{rule}" for c, rule in CLIENTS]
)
def test_client_that_breaks_a_rule_gets_that_rule_named(client: type[RawGame], rule: str) -> None:
    # Who is to wait longer and longer is waited for.
    findings = checked(client, 2.0 if rule in ("backoff-grows", "error-final") else 0.6)
    assert rule in broken(findings), broken(findings)
    assert "expected" in broken(findings)[rule].lower()
    assert not passed(findings)


class Mute(RawGame):
    """Connects, and waits to be spoken to."""

    def begin(self) -> None:
        self.answer(11)


class CountsItself(RawGame):
    """Its length counts itself."""

    def begin(self) -> None:
        data = framed([1, self.hello()])
        self.wire.raw(len(data).to_bytes(4, "big") + data[4:])
        self.answer(11)


class GoneAtWelcome(RawGame):
    """Is ended while it waits for WELCOME."""

    def begin(self) -> None:
        self.wire.send([1, self.hello()])
        linger = struct.pack("ii", 1, 0)  # reset, as when a process is killed
        self.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.wire.close()
        raise Closed([15, "", "", False])


@pytest.mark.parametrize(
    ("client", "rule", "says"),
    [
        (Mute, "hello_first", r"expected HELLO; nothing came for 0\.6 s$"),
        (CountsItself, "hello_first", r"expected HELLO; .* but \d+ of .* must not count itself"),
        (
            GoneAtWelcome,
            "late-welcome",
            "wait for WELCOME and read it; it closed|last it got was WELCOME",
        ),
        (DiesOfSettings, "glued", "the last it got was SETTINGS, an answer and SETTINGS in one"),
        (DiesOfNil, "last-frame", "the last it got was the answer to an episode's last frame"),
        (LittleEndian, "message_too_long", "send the length big-endian"),
        (element(3, "x"), "message_malformed", r"FRAME: obs \(element 3\): expected bin, got str"),
    ],
)
def test_findings_about_clients_have_helpful_details(
    client: type[RawGame], rule: str, says: str
) -> None:
    detail = broken(checked(client))[rule]
    assert re.search(says, detail), detail
    assert "Errno" not in detail


def test_client_that_reconnected_is_not_reported_as_absent() -> None:
    SeqGoesOn.total = 0
    findings = checked(SeqGoesOn)
    assert broken(findings).keys() == {"seq_out_of_order"}
    (cut,) = (finding for finding in findings if finding.name == "cut")
    assert (cut.result, cut.detail) == (UNSEEN, "it came back, and broke another rule")


def test_listening_without_any_client_fails_with_a_hint() -> None:
    code, out, errors = in_this_process("conformance", "--listen", "0", "--timeout", "0.2")
    assert code == 1
    assert "listening on 127.0.0.1:" in errors
    assert re.search(r"nobody connected to port \d+ within 0\.2 s; .* raise --timeout", errors)
    assert out == ""
    code, out, _ = in_this_process("conformance", "--listen", "0", "--timeout", "0.2", "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)
    assert in_this_process("conformance", "--listen", "here")[0] == 2


def test_conformance_command_checks_a_client() -> None:
    process = Understudy(
        "conformance", "--listen", "127.0.0.1:0", "--json", "--frames", "3", "--timeout", "5",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        port = int(process.stderr.readline().rsplit(":", 1)[1])
        game = SeqFromOne(port)
        out, _ = process.communicate(timeout=60)
        game.thread.join(10.0)
    finally:
        process.kill()
    report = json.loads(out)
    assert process.returncode == 1
    assert report["broken"] == 1
    assert [r["name"] for r in report["rules"] if r["result"] == BROKEN] == ["seq_out_of_order"]
