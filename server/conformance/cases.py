"""The cases of `understudy conformance --connect`: what a server must do for a client that keeps
the rules.

Each case is one function, under a heading of protocol/SPEC.md. It plays on connections of its own
and raises RuleBroken. What a server must refuse is in `violations`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from server.conformance.expectations import (
    check_action,
    check_actions,
    check_error,
    check_fire,
    check_welcome,
)
from server.conformance.game import (
    EXPERT,
    HEADS,
    MASK_OF,
    NAN,
    OBS,
    OBSERVATIONS,
    ROW,
    floats,
    frame,
    frames,
    hello,
)
from server.conformance.report import NotExercised, RuleBroken
from server.conformance.server_under_test import ServerUnderTest, play
from server.net.plain_messages import message


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a server must do."""

    name: str
    section: str
    rule: str
    check: Callable[[ServerUnderTest], None]


CASES: list[Case] = []


def case(name: str, section: str, rule: str) -> Callable[[Callable[[ServerUnderTest], None]], None]:
    def register(check: Callable[[ServerUnderTest], None]) -> None:
        CASES.append(Case(name, section, rule, check))

    return register


@case("game", "A game in seven messages", "HELLO, WELCOME, frames and their answers, BYE")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        play(wire, frame(0, expert=EXPERT), frame(1, reward=-100.0, status=1))
        wire.send(5)
        if (more := wire.recv()) is not None:
            raise RuleBroken(f"expected the end of the connection behind BYE, got {more}")


@case("split", "Framing", "a message may arrive a byte at a time")
def _(server: ServerUnderTest) -> None:
    with server.connect() as wire:
        wire.slowly(message(1, server.fields()))
        check_welcome(wire.next(11, "WELCOME"), server.sessions)
        for seq in range(3):
            sent = frame(seq, expert=EXPERT)
            wire.slowly(message(*sent))
            check_action(wire.next(12, "ACTION"), sent)


@case("glued", "Framing", "several messages may arrive at once, and the half of another")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(slots=2) as wire:
        one, two, three = frame(0), frame(0, slot=1, status=2), message(*frame(1))
        wire.raw(message(4, 1) + message(*one) + message(4, 2) + message(*two) + three[:9])
        got = [wire.recv() for _ in range(4)]
        pongs = [value for value in got if value and value[0] == 14]
        if pongs != [[14, 1], [14, 2]]:
            raise RuleBroken(f"expected PONG 1 and PONG 2, got {got}")
        answers = {value[1]: value for value in got if value and value[0] == 12}
        if set(answers) != {0, 1}:
            raise RuleBroken(f"expected an ACTION for each of two slots, got {got}")
        check_action(answers[0], one)
        check_action(answers[1], two)
        wire.raw(three[9:])
        check_action(wire.next(12, "ACTION"), frame(1))


@case("long", "Framing", "from WELCOME on a message may be longer than 65,536 bytes")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        nonce = b"\x07" * 70_000
        wire.send(4, nonce)
        if wire.next(14, "PONG")[1] != nonce:
            raise RuleBroken("expected the nonce of 70,000 bytes back, got another")


@case("number-forms", "Values", "every msgpack form of a number is accepted")
def _(server: ServerUnderTest) -> None:
    bin16 = b"\xc5" + len(OBS).to_bytes(2, "big") + OBS
    with server.welcomed() as wire:
        # array 16, uint 8, uint 32, bin 16, float 32, int 64, nil, nil
        body = b"\xdc\x00\x08\x02\xcc\x00\xce\x00\x00\x00\x00" + bin16
        body += b"\xca\x3f\x00\x00\x00\xd3" + bytes(8) + b"\xc0\xc0"
        wire.raw(len(body).to_bytes(4, "big") + body)
        check_action(wire.next(12, "ACTION"), frame(0))
        play(wire, frame(1, reward=3), frame(2, reward=[0.5]), frame(3, expert=[1, 0, [-1, 0]]))


@case("one-number-list", "Tensors", "a head of one number takes an array of one number too")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        play(wire, frame(0, expert=[1, [-0.5], [-1.25, 0.25]]))


@case("hello-defaults", "1 HELLO", "rewards, slots, token and role may be left out, or be there")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        play(wire, frame(0))
    with server.welcomed(rewards=["reward"], slots=1, role="train", realtime=False) as wire:
        play(wire, frame(0))


@case("hello-realtime", "1 HELLO", "a game in real time plays like any other")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(realtime=True) as wire:
        play(wire, frame(0), frame(1), frame(2, status=1), frame(3))


@case("hello-token", "1 HELLO", "a token that is missing or wrong is refused before all else")
def _(server: ServerUnderTest) -> None:
    if server.token is None:
        raise NotExercised("give the server a token, and here --token")
    for given in (None, server.token + "x"):
        with server.connect() as wire:
            wire.send(1, {**hello(protocol=99, actions=5), "token": given})
            check_error(wire, "bad_token")


@case("slots", "Slots, seq and episodes", "each slot has its own seq and its own episodes")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(slots=3) as wire:
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
def _(server: ServerUnderTest) -> None:
    with server.welcomed(slots=8) as wire:
        for seq in range(3):
            sent = {slot: frame(seq, slot=slot, expert=EXPERT) for slot in range(8)}
            wire.raw(b"".join(message(*one) for one in sent.values()))
            for _ in range(8):
                got = wire.next(12, "ACTION")
                if got[1] not in sent:
                    raise RuleBroken(f"expected one answer for each slot, got {got} as well")
                check_action(got, sent.pop(got[1]))


@case("episodes", "Slots, seq and episodes", "seq goes on across the ends of episodes")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        play(wire, *(frame(i, status=(0, 0, 1, 0, 2)[i % 5]) for i in range(10)))


@case("exactly-one", "12 ACTION", "exactly one answer for every FRAME")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        play(wire, *(frame(i, expert=EXPERT) for i in range(20)))
        wire.send(4, "end")
        wire.next(14, "PONG")


@case("dqn-alone", "12 ACTION", "where nothing is recommended the network acts")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        play(wire, *(frame(i) for i in range(20)))


@case("frames", "3 FRAMES", "FRAMES are answered by ACTIONS, one for all slots")
def _(server: ServerUnderTest) -> None:
    experts = floats(*ROW, NAN, 0, 0, 0)
    with server.welcomed(slots=2) as wire:
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
            raise RuleBroken("slot 1: expected dqn where the row begins with NaN, got the expert")


@case("legal", "Legal actions", "what is not legal is never chosen")
def _(server: ServerUnderTest) -> None:
    for role in ("train", "eval"):
        with server.welcomed(role=role) as wire:
            sent = [frame(i, legal=MASK_OF[i % 3]) for i in range(30)]
            check_fire([got[3][0] for got in play(wire, *sent)], [i % 3 for i in range(30)])
            # No mask, and nil for one, say that all is legal; behind an end nothing need be.
            play(wire, frame(30), [*frame(31), None], frame(32, status=2, legal=b"\x00"), frame(33))


@case("legal-frames", "Legal actions", "each slot has its own mask in FRAMES")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(slots=2) as wire:
        for seq in range(12):
            one, two = seq % 3, (seq + 1) % 3
            (got,) = play(wire, frames(seq, legal=MASK_OF[one] + MASK_OF[two]))
            rows = struct.unpack("<8f", got[2])
            check_fire([rows[0], rows[4]], [one, two])


@case("legal-advice", "Legal actions", "legal advice, and a legal took, are accepted")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        took = [[2, 0.0, [0.0, 0.0]], 2]
        play(
            wire,
            frame(0, expert=EXPERT, legal=MASK_OF[1]),
            frame(1, legal=MASK_OF[2]),
            frame(2, took=took, legal=MASK_OF[0]),
        )


@case("metrics", "Numbers of the game", "numbers of the game, and none of them, are accepted")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(metrics=["coins"]) as wire:
        play(wire, *([*frame(at), None, one] for at, one in enumerate([[3], [None], None])))


@case("took", "took", "what was done instead is accepted, from a person and from the network")
def _(server: ServerUnderTest) -> None:
    other = [2, 1.0, [-2.0, 0.5]]
    with server.welcomed() as wire:
        play(
            wire,
            frame(0),
            frame(1, took=[other, 2]),
            frame(2, took=[other, 1], expert=EXPERT),
            frame(3, took=[other, 2], status=1),
            frame(4),
        )


@case("took-float32", "Tensors", "an answer is accepted back as it came")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        (first,) = play(wire, frame(0))
        play(wire, frame(1, took=[first[3], 1]))


@case("ping", "4 PING", "any value comes back, byte for byte")
def _(server: ServerUnderTest) -> None:
    nonces = [b"\xc0", b"\x07", b"\xd3" + bytes(7) + b"\x07", b"\xca\x3f\x80\x00\x00"]
    nonces += [msgspec.msgpack.encode({"at": [1.5, "ü"]}), b"\xc7\x03\x05abc"]
    with server.welcomed() as wire:
        for nonce in nonces:
            body = b"\x92\x04" + nonce
            wire.raw(len(body).to_bytes(4, "big") + body)
            wanted = b"\x92\x0e" + nonce
            got = wire.exact(len(wanted) + 4)
            if got[4:] != wanted:
                raise RuleBroken(f"expected {wanted.hex()}, got {got[4:].hex()}")


@case("ping-early", "The session", "PING is answered between HELLO and WELCOME too")
def _(server: ServerUnderTest) -> None:
    with server.connect() as wire:
        wire.raw(message(1, server.fields()) + message(4, 5))
        got = [wire.recv(), wire.recv()]
        if sorted(value[0] if value else 0 for value in got) != [11, 14]:
            raise RuleBroken(f"expected WELCOME and PONG, got {got}")


@case("bye-glued", "5 BYE", "what is glued behind BYE is ignored")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        wire.raw(message(5) + b"\xff\xff\xff\xff and more")
        if (more := wire.recv()) is not None:
            raise RuleBroken(f"expected the end of the connection, got {more}")


@case("eval", "Roles", "eval, and play with any policy: a network alone, without exploration")
def _(server: ServerUnderTest) -> None:
    for policy in (None, "newest", "best", "recent:2"):
        asked = {"role": "play", "policy": policy} if policy else {"role": "eval"}
        with server.welcomed(**asked) as wire:
            for got in play(wire, *(frame(i, expert=EXPERT) for i in range(20))):
                if got[4] != 1 or got[6]:
                    raise RuleBroken(f"expected actor 1 and explored false, got {got}")


@case("eval-expert", "Roles", "eval_expert: the expert alone")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(role="eval_expert") as wire:
        sent = [frame(i, expert=EXPERT) for i in range(20)]
        for got in play(wire, *sent):
            if got[4] != 2:
                raise RuleBroken(f"expected actor 2, got {got}")
        play(wire, frame(20, status=1))


@case("eval-expert-gaps", "Roles", "eval_expert: between recommendations the last one is repeated")
def _(server: ServerUnderTest) -> None:
    neutral = [0, 0.0, [0.0, 0.0]]
    with server.welcomed(role="eval_expert") as wire:
        for first in (0, 4):
            sent = [frame(first), frame(first + 1, expert=EXPERT), frame(first + 2)]
            got = play(wire, *sent, frame(first + 3, status=1), expert_alone=True)
            if [one[3] for one in got] != [neutral, EXPERT, EXPERT, None]:
                raise RuleBroken(
                    f"expected {neutral} before the first recommendation, and {EXPERT} again "
                    f"behind it, got {got}"
                )
        sent = [frame(8, legal=MASK_OF[2]), frame(9, expert=EXPERT), frame(10, legal=MASK_OF[0])]
        got = play(wire, *sent, frame(11, status=1), expert_alone=True)
        check_fire([one[3][0] for one in got[:3]], [2, 1, 0])


@case("eval-announced", "1 HELLO", "episodes and evaluates may be announced")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(evaluates=True) as wire:
        play(wire, frame(0))
    with server.welcomed(role="eval", episodes=1, slots=2) as wire:
        play(wire, frame(0), frame(1, status=1))


@case("extra-keys", "Later versions", "unknown keys of HELLO are ignored")
def _(server: ServerUnderTest) -> None:
    with server.welcomed(colour=["red", {"deep": None}]) as wire:
        play(wire, frame(0))


@case("extra-elements", "Later versions", "elements behind the last one are ignored")
def _(server: ServerUnderTest) -> None:
    heads = [[*head, {"mask": b"\x01"}] for head in HEADS]
    seen = [{**each, "layout": "NCHW"} for each in OBSERVATIONS]
    with server.connect() as wire:
        wire.send(1, server.fields(observation=seen, actions=heads), "later")
        check_welcome(wire.next(11, "WELCOME"), server.sessions)
        wire.send(*frame(0), None, {"later": 1})
        check_action(wire.next(12, "ACTION"), frame(0))
        wire.send(4, 7, "later")
        if wire.next(14, "PONG")[1] != 7:
            raise RuleBroken("expected the nonce back")
        wire.send(5, "later")
        if (more := wire.recv()) is not None:
            raise RuleBroken(f"expected the end of the connection behind BYE, got {more}")


@case("half", "Errors", "a connection that ends in the middle of a message is closed")
def _(server: ServerUnderTest) -> None:
    with server.welcomed() as wire:
        wire.raw(message(*frame(0))[:-1])
        wire.end()
        while (value := wire.recv()) is not None:
            if value[0] != 15:
                raise RuleBroken(f"expected the end of the connection, got {value}")


@case("reconnect", "When the connection ends", "a new connection is a new session, seq from 0")
def _(server: ServerUnderTest) -> None:
    for _ in range(3):
        with server.welcomed() as wire:
            play(wire, frame(0), frame(1, expert=EXPERT))


@case(
    "deadline", "When you must wait", "who sends no HELLO in time gets an ERROR and may come back"
)
def _(server: ServerUnderTest) -> None:
    if server.silent is None:
        raise NotExercised("left out with --wait 0")
    left = server.silent_since + server.patience_s - time.monotonic()
    server.silent.wait_for(max(0.5, left))
    check_error(server.silent, "handshake_timeout", retry=True)
