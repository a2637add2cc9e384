"""`understudy conformance --connect`: what a server must do for a client that keeps the rules.

Each case is one function, named, under a heading of protocol/SPEC.md. It plays on connections of
its own and raises Broken. What a server must refuse is in `conformance_misdeeds`.
"""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from server.conformance.report import Broken, NotExercised
from server.conformance.wire import Wire, message

OBS = struct.pack("<3f", 0.5, -1.0, 2.0)
HEADS: list[list[Any]] = [
    ["discrete", "fire", 3],
    ["continuous", "turn", -1.0, 1.0, 1],
    ["continuous", "move", -2.0, 0.5, 2],
]
WIDTH = 4
EXPERT: list[Any] = [1, -0.5, [-1.25, 0.25]]
ROW = [1.0, -0.5, -1.25, 0.25]
NAN = float("nan")


def hello(**changes: Any) -> dict[str, Any]:
    """The map of a HELLO of the game that all cases play."""
    return {
        "protocol": 1,
        "client": "understudy-conformance/1",
        "game": "conformance",
        "observation": ["float32", [3]],
        "actions": HEADS,
        **changes,
    }


def frame(
    seq: int,
    *,
    slot: int = 0,
    obs: Any = OBS,
    reward: Any = 0.0,
    status: Any = 0,
    expert: Any = None,
    took: Any = None,
) -> list[Any]:
    return [2, slot, seq, obs, reward, status, expert, took]


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def frames(
    seq: int,
    *,
    obs: bytes = OBS * 2,
    rewards: bytes = floats(0.0, 0.0),
    statuses: bytes = bytes(2),
    experts: Any = None,
    took: Any = None,
) -> list[Any]:
    """A FRAMES of two slots."""
    return [3, seq, obs, rewards, statuses, experts, took]


@dataclass
class Player:
    """Where the cases connect to, and what they have learnt of the server."""

    address: tuple[str, int]
    timeout_s: float
    token: str | None = None
    tls: ssl.SSLContext | None = None
    """What to encrypt with; None for a server that does not."""
    patience_s: float = 0.0
    """How long to wait for a server's deadlines; 0 leaves them out."""
    silent: Wire | None = None
    """A connection that has said nothing since `silent_since`."""
    silent_since: float = 0.0
    sessions: set[int] = field(default_factory=set)

    def connect(self) -> Wire:
        return Wire(self.address, self.timeout_s, self.tls)

    def fields(self, **changes: Any) -> dict[str, Any]:
        return hello(**({} if self.token is None else {"token": self.token}), **changes)

    def welcomed(self, **changes: Any) -> Wire:
        """A connection that has been let in."""
        wire = self.connect()
        try:
            wire.send(1, self.fields(**changes))
            check_welcome(wire.next(11, "WELCOME"), self)
        except BaseException:
            wire.close()
            raise
        return wire


def check_welcome(value: list[Any], player: Player) -> dict[str, Any]:
    """WELCOME: every key there, of the right type, the session a new one."""
    if len(value) < 2 or not isinstance(value[1], dict):
        raise Broken(f"expected WELCOME with a map, got {value}")
    got: dict[str, Any] = value[1]
    for key, kind in (("session", int), ("protocol", int), ("server", str), ("settings", dict)):
        if type(got.get(key)) is not kind:
            raise Broken(f"WELCOME: expected {key} as {kind.__name__}, got {got.get(key)!r}")
    if got["protocol"] != 1:
        raise Broken(f"WELCOME: expected protocol 1, got {got['protocol']}")
    if got["session"] in player.sessions:
        raise Broken(
            f"expected a session of its own for each connection, got {got['session']} again"
        )
    if not 0 <= got["session"] < 2**47:
        raise Broken(f"expected a session of up to 47 bits, got {got['session']}")
    player.sessions.add(got["session"])
    return got


def check_action(value: list[Any], sent: list[Any]) -> list[Any]:
    """ACTION: the answer to this FRAME, in form and content."""
    if len(value) < 7:
        raise Broken(f"expected ACTION with 7 elements, got {value}")
    _, slot, seq, action, actor, version, explored = value[:7]
    if (slot, seq) != (sent[1], sent[2]):
        raise Broken(f"expected the answer to slot {sent[1]}, seq {sent[2]}, got {value}")
    if type(version) is not int or type(explored) is not bool:
        raise Broken(f"expected an int and a boolean behind the actor, got {value}")
    if sent[5] != 0:
        if action is not None or actor != 0:
            raise Broken(f"expected nil and actor 0 for the last frame of an episode, got {value}")
        return value
    if type(actor) is not int or actor not in (1, 2):
        raise Broken(f"expected actor 1 or 2, got {value}")
    if not isinstance(action, list) or len(action) != len(HEADS):
        raise Broken(f"expected one part for each of {len(HEADS)} heads, got {value}")
    row = _row(action, value)
    if actor == 2:
        if sent[6] is None:
            raise Broken(f"expected dqn where nothing was recommended, got the expert: {value}")
        if row != _row(sent[6], value):
            raise Broken(f"expected what the expert recommended, {sent[6]}, got {value}")
        if explored:
            raise Broken(f"expected explored false for the expert's action, got {value}")
    return value


def _row(action: list[Any], value: list[Any]) -> list[float]:
    """An action as an action row, each part checked against its head."""
    out: list[float] = []
    for head, part in zip(HEADS, action, strict=True):
        if head[0] == "discrete":
            if type(part) is not int or not 0 <= part < head[2]:
                raise Broken(f"{head[1]}: expected an int from 0 to {head[2] - 1}, got {value}")
            out.append(part)
            continue
        numbers = part if isinstance(part, list) else [part]
        if len(numbers) != head[4]:
            raise Broken(f"{head[1]}: expected {head[4]} numbers, got {value}")
        for number in numbers:
            if type(number) not in (int, float) or not head[2] <= number <= head[3]:
                raise Broken(f"{head[1]}: expected {head[2]} to {head[3]}, got {value}")
        out += numbers
    return out


def check_actions(value: list[Any], sent: list[Any]) -> list[Any]:
    """ACTIONS: the answer to this FRAMES of two slots."""
    if len(value) < 6:
        raise Broken(f"expected ACTIONS with 6 elements, got {value}")
    _, seq, actions, actors, version, explored = value[:6]
    if seq != sent[1]:
        raise Broken(f"expected the answer to seq {sent[1]}, got {value}")
    sizes = [len(part) if isinstance(part, bytes) else None for part in (actions, actors, explored)]
    if sizes != [2 * 4 * WIDTH, 2, 2] or type(version) is not int:
        raise Broken(f"expected bins of {8 * WIDTH}, 2 and 2 bytes, and an int, got {value}")
    rows = [struct.unpack_from(f"<{WIDTH}f", actions, 4 * WIDTH * slot) for slot in range(2)]
    experts = sent[5]
    for slot, row in enumerate(rows):
        if sent[4][slot] != 0:
            if row[0] == row[0] or actors[slot] != 0:
                raise Broken(f"slot {slot}: expected NaN and actor 0 for a last frame, got {value}")
            continue
        if actors[slot] not in (1, 2):
            raise Broken(f"slot {slot}: expected actor 1 or 2, got {actors[slot]}")
        if explored[slot] not in (0, 1):
            raise Broken(f"slot {slot}: expected explored 0 or 1, got {explored[slot]}")
        if row[0] not in (0.0, 1.0, 2.0) or not (
            -1 <= row[1] <= 1 and all(-2 <= number <= 0.5 for number in row[2:])
        ):
            raise Broken(f"slot {slot}: expected an action row within the heads, got {row}")
        if actors[slot] == 2:
            if experts is None:
                raise Broken(f"slot {slot}: expected dqn, got the expert, who recommended nothing")
            wanted = struct.unpack_from(f"<{WIDTH}f", experts, 4 * WIDTH * slot)
            if row != wanted:
                raise Broken(
                    f"slot {slot}: expected what the expert recommended, {wanted}, got {row}"
                )
    return value


def play(wire: Wire, *sent: list[Any]) -> list[list[Any]]:
    """Send frames, each after the answer to the one before; the answers, checked."""
    out = []
    for one in sent:
        wire.send(*one)
        if one[0] == 2:
            out.append(check_action(wire.next(12, "ACTION"), one))
        else:
            out.append(check_actions(wire.next(13, "ACTIONS"), one))
    return out


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    section: str
    rule: str
    check: Callable[[Player], None]


CASES: list[Case] = []


def case(name: str, section: str, rule: str) -> Callable[[Callable[[Player], None]], None]:
    def register(check: Callable[[Player], None]) -> None:
        CASES.append(Case(name, section, rule, check))

    return register


@case("game", "A game in seven messages", "HELLO, WELCOME, frames and their answers, BYE")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        play(wire, frame(0, expert=EXPERT), frame(1, reward=-100.0, status=1))
        wire.send(5)
        if (more := wire.recv()) is not None:
            raise Broken(f"expected the end of the connection behind BYE, got {more}")


@case("split", "Framing", "a message may arrive a byte at a time")
def _(player: Player) -> None:
    with player.connect() as wire:
        wire.slowly(message(1, player.fields()))
        check_welcome(wire.next(11, "WELCOME"), player)
        for seq in range(3):
            sent = frame(seq, expert=EXPERT)
            wire.slowly(message(*sent))
            check_action(wire.next(12, "ACTION"), sent)


@case("glued", "Framing", "several messages may arrive at once, and the half of another")
def _(player: Player) -> None:
    with player.welcomed(slots=2) as wire:
        one, two, three = frame(0), frame(0, slot=1, status=2), message(*frame(1))
        wire.raw(message(4, 1) + message(*one) + message(4, 2) + message(*two) + three[:9])
        got = [wire.recv() for _ in range(4)]
        pongs = [value for value in got if value and value[0] == 14]
        if pongs != [[14, 1], [14, 2]]:
            raise Broken(f"expected PONG 1 and PONG 2, got {got}")
        answers = {value[1]: value for value in got if value and value[0] == 12}
        if set(answers) != {0, 1}:
            raise Broken(f"expected an ACTION for each of two slots, got {got}")
        check_action(answers[0], one)
        check_action(answers[1], two)
        wire.raw(three[9:])
        check_action(wire.next(12, "ACTION"), frame(1))


@case("long", "Framing", "from WELCOME on a message may be longer than 65,536 bytes")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        nonce = b"\x07" * 70_000
        wire.send(4, nonce)
        if wire.next(14, "PONG")[1] != nonce:
            raise Broken("expected the nonce of 70,000 bytes back, got another")


@case("number-forms", "Values", "every msgpack form of a number is accepted")
def _(player: Player) -> None:
    bin16 = b"\xc5\x00\x0c" + OBS
    with player.welcomed() as wire:
        # array 16, uint 8, uint 32, bin 16, float 32, int 64, nil, nil
        body = b"\xdc\x00\x08\x02\xcc\x00\xce\x00\x00\x00\x00" + bin16
        body += b"\xca\x3f\x00\x00\x00\xd3" + bytes(8) + b"\xc0\xc0"
        wire.raw(len(body).to_bytes(4, "big") + body)
        check_action(wire.next(12, "ACTION"), frame(0))
        play(wire, frame(1, reward=3), frame(2, reward=[0.5]), frame(3, expert=[1, 0, [-1, 0]]))


@case("one-number-list", "Tensors", "a head of one number takes an array of one number too")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        play(wire, frame(0, expert=[1, [-0.5], [-1.25, 0.25]]))


@case("hello-defaults", "1 HELLO", "rewards, slots, token and role may be left out, or be there")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        play(wire, frame(0))
    with player.welcomed(rewards=["reward"], slots=1, role="train") as wire:
        play(wire, frame(0))


@case("hello-token", "1 HELLO", "a token that is missing or wrong is refused before all else")
def _(player: Player) -> None:
    if player.token is None:
        raise NotExercised("give the server a token, and here --token")
    for given in (None, player.token + "x"):
        with player.connect() as wire:
            wire.send(1, {**hello(protocol=99, actions=5), "token": given})
            check_error(wire, "bad_token")


@case("slots", "Slots, seq and episodes", "each slot has its own seq and its own episodes")
def _(player: Player) -> None:
    with player.welcomed(slots=3) as wire:
        play(
            wire,
            frame(0, slot=2),
            frame(0, slot=0),
            frame(1, slot=2, status=1),
            frame(2, slot=2, expert=EXPERT),
            frame(1, slot=0),
            frame(0, slot=1, status=2),
            frame(1, slot=1),
        )


@case("slots-wait", "Slots, seq and episodes", "frames of different slots need not wait")
def _(player: Player) -> None:
    with player.welcomed(slots=8) as wire:
        for seq in range(3):
            sent = {slot: frame(seq, slot=slot, expert=EXPERT) for slot in range(8)}
            wire.raw(b"".join(message(*one) for one in sent.values()))
            for _ in range(8):
                got = wire.next(12, "ACTION")
                if got[1] not in sent:
                    raise Broken(f"expected one answer for each slot, got {got} as well")
                check_action(got, sent.pop(got[1]))


@case("episodes", "Slots, seq and episodes", "seq goes on across the ends of episodes")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        play(wire, *(frame(i, status=(0, 0, 1, 0, 2)[i % 5]) for i in range(10)))


@case("exactly-one", "12 ACTION", "exactly one answer for every FRAME")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        play(wire, *(frame(i, expert=EXPERT) for i in range(20)))
        wire.send(4, "end")
        wire.next(14, "PONG")


@case("dqn-alone", "12 ACTION", "where nothing is recommended the network acts")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        play(wire, *(frame(i) for i in range(20)))


@case("frames", "3 FRAMES", "FRAMES are answered by ACTIONS, one for all slots")
def _(player: Player) -> None:
    experts = floats(*ROW, NAN, 0, 0, 0)
    with player.welcomed(slots=2) as wire:
        play(
            wire,
            frames(0, experts=floats(*ROW, *ROW)),
            frames(1, took=[floats(NAN, 0, 0, 0, *ROW), b"\x00\x02"]),
            frames(2, statuses=b"\x01\x00"),
            frames(3, statuses=b"\x00\x02", took=[floats(NAN, 0, 0, 0, *ROW), b"\x00\x01"]),
            frames(4),
        )
        wire.send(*frames(5, experts=experts))
        got = check_actions(wire.next(13, "ACTIONS"), frames(5, experts=experts))
        if got[3][1] == 2:
            raise Broken("slot 1: expected dqn where the row begins with NaN, got the expert")


@case("took", "took", "what was done instead is accepted, from a person and from the network")
def _(player: Player) -> None:
    other = [2, 1.0, [-2.0, 0.5]]
    with player.welcomed() as wire:
        play(
            wire,
            frame(0),
            frame(1, took=[other, 2]),
            frame(2, took=[other, 1], expert=EXPERT),
            frame(3, took=[other, 2], status=1),
            frame(4),
        )


@case("took-float32", "Tensors", "an answer is accepted back as it came")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        (first,) = play(wire, frame(0))
        play(wire, frame(1, took=[first[3], 1]))


@case("ping", "4 PING", "any value comes back, byte for byte")
def _(player: Player) -> None:
    nonces = [b"\xc0", b"\x07", b"\xd3" + bytes(7) + b"\x07", b"\xca\x3f\x80\x00\x00"]
    nonces += [msgspec.msgpack.encode({"at": [1.5, "ü"]}), b"\xc7\x03\x05abc"]
    with player.welcomed() as wire:
        for nonce in nonces:
            body = b"\x92\x04" + nonce
            wire.raw(len(body).to_bytes(4, "big") + body)
            wanted = b"\x92\x0e" + nonce
            got = wire.exact(len(wanted) + 4)
            if got[4:] != wanted:
                raise Broken(f"expected {wanted.hex()}, got {got[4:].hex()}")


@case("ping-early", "The session", "PING is answered between HELLO and WELCOME too")
def _(player: Player) -> None:
    with player.connect() as wire:
        wire.raw(message(1, player.fields()) + message(4, 5))
        got = [wire.recv(), wire.recv()]
        if sorted(value[0] if value else 0 for value in got) != [11, 14]:
            raise Broken(f"expected WELCOME and PONG, got {got}")


@case("bye-glued", "5 BYE", "what is glued behind BYE is ignored")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        wire.raw(message(5) + b"\xff\xff\xff\xff and more")
        if (more := wire.recv()) is not None:
            raise Broken(f"expected the end of the connection, got {more}")


@case("eval", "Roles", "eval: the network alone, without exploration")
def _(player: Player) -> None:
    with player.welcomed(role="eval") as wire:
        for got in play(wire, *(frame(i, expert=EXPERT) for i in range(20))):
            if got[4] != 1 or got[6]:
                raise Broken(f"expected actor 1 and explored false, got {got}")


@case("eval-expert", "Roles", "eval_expert: the expert alone")
def _(player: Player) -> None:
    with player.welcomed(role="eval_expert") as wire:
        sent = [frame(i, expert=EXPERT) for i in range(20)]
        for got in play(wire, *sent):
            if got[4] != 2:
                raise Broken(f"expected actor 2, got {got}")
        play(wire, frame(20, status=1))


@case("extra-keys", "Later versions", "unknown keys of HELLO are ignored")
def _(player: Player) -> None:
    with player.welcomed(colour=["red", {"deep": None}]) as wire:
        play(wire, frame(0))


@case("extra-elements", "Later versions", "elements behind the last one are ignored")
def _(player: Player) -> None:
    heads = [[*head, {"mask": b"\x01"}] for head in HEADS]
    with player.connect() as wire:
        fields = player.fields(observation=["float32", [3], "NCHW"], actions=heads)
        wire.send(1, fields, "later")
        check_welcome(wire.next(11, "WELCOME"), player)
        wire.send(*frame(0), [1, 0], {"later": 1})
        check_action(wire.next(12, "ACTION"), frame(0))
        wire.send(4, 7, "later")
        if wire.next(14, "PONG")[1] != 7:
            raise Broken("expected the nonce back")
        wire.send(5, "later")
        if (more := wire.recv()) is not None:
            raise Broken(f"expected the end of the connection behind BYE, got {more}")


@case("half", "Errors", "a connection that ends in the middle of a message is closed")
def _(player: Player) -> None:
    with player.welcomed() as wire:
        wire.raw(message(*frame(0))[:-1])
        wire.end()
        while (value := wire.recv()) is not None:
            if value[0] != 15:
                raise Broken(f"expected the end of the connection, got {value}")


@case("reconnect", "When the connection ends", "a new connection is a new session, seq from 0")
def _(player: Player) -> None:
    for _ in range(3):
        with player.welcomed() as wire:
            play(wire, frame(0), frame(1, expert=EXPERT))


def check_error(wire: Wire, code: str, *, retry: bool = False) -> None:
    """The server's last message is this ERROR; then it closes."""
    last: list[Any] | None = None
    while (value := wire.recv()) is not None:
        if last is not None:
            raise Broken(f"expected the end of the connection behind ERROR, got {value}")
        if value[0] == 15:
            last = value
        elif value[0] not in (12, 13, 14, 16):
            raise Broken(f"expected ERROR {code}, got {str(value)[:300]}")
    if last is None:
        raise Broken(f"expected ERROR {code}, got the end of the connection without a word")
    if [type(part) for part in last[1:4]] != [str, str, bool]:
        raise Broken(f"expected ERROR as two strings and a boolean, got {last}")
    if last[1] != code:
        raise Broken(f"expected ERROR {code}, got {last[1]}: {last[2][:300]}")
    if not 1 <= len(last[2]) <= 8000:
        raise Broken(f"expected a message of 1 to 8,000 characters, got {len(last[2])}")
    if last[3] is not retry:
        raise Broken(f"{code}: expected retry {str(retry).lower()}, got {last[3]}")


@case("deadline", "When you must wait", "who says no HELLO in time is told, and may come back")
def _(player: Player) -> None:
    if player.silent is None:
        raise NotExercised("left out with --wait 0")
    left = player.silent_since + player.patience_s - time.monotonic()
    player.silent.wait_for(max(0.5, left))
    check_error(player.silent, "handshake_timeout", retry=True)
