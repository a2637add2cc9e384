"""The rules for clients, and the ledger of what was seen of each. No I/O.

There are two kinds: rules that a client breaks by what it sends, named by the code of the ERROR
that a server answers with, and what a client must tolerate of servers and networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.conformance.report import BROKEN, KEPT, UNSEEN, RuleResult


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule for clients. It is exercised once `mark` was seen."""

    name: str
    section: str
    text: str
    mark: str
    unseen: str = ""
    """Why it may not have been exercised."""


NO_MASK = "it sent no mask"
NO_METRICS = "it told no numbers of its game"

SENT: list[Rule] = [
    Rule(
        "not_understudy", "Framing", "the first bytes are a length, not another protocol", "hello"
    ),
    Rule("message_too_long", "Framing", "lengths are big-endian and within the limit", "frame"),
    Rule("message_empty", "Framing", "no message has a length of zero", "frame"),
    Rule(
        "message_malformed",
        "Values",
        "each payload is one msgpack value of its type's form",
        "frame",
    ),
    Rule("unknown_type", "Client to server", "types are 1 to 5", "frame"),
    Rule("hello_first", "The session", "HELLO comes first", "hello"),
    Rule("welcome_first", "The session", "no frame before WELCOME", "welcome late"),
    Rule("hello_twice", "1 HELLO", "HELLO is sent once", "frame"),
    Rule("protocol_version", "1 HELLO", "protocol is 1", "hello"),
    Rule(
        "bad_hello", "1 HELLO", "every field is there, of its type and within its limits", "hello"
    ),
    Rule(
        "spec_mismatch",
        "1 HELLO",
        "each connection declares the same game",
        "hello again",
        "it connected only once",
    ),
    Rule("unknown_slot", "Slots, seq and episodes", "slots are those that HELLO declared", "frame"),
    Rule(
        "seq_out_of_order",
        "Slots, seq and episodes",
        "seq starts at 0 and rises by 1",
        "second frame",
    ),
    Rule(
        "seq-across-episodes",
        "Slots, seq and episodes",
        "seq goes on across the ends of episodes",
        "frame behind an end",
        "no episode ended",
    ),
    Rule(
        "frame_before_answer",
        "Slots, seq and episodes",
        "one unanswered frame a slot",
        "answer late",
        "no answer was late before the check ended",
    ),
    Rule("mixed_frames", "3 FRAMES", "FRAME or FRAMES, never both", "second frame"),
    Rule("observation_size", "Tensors", "obs has the bytes that HELLO declared", "frame"),
    Rule("observation_not_finite", "Tensors", "obs is finite", "frame"),
    Rule(
        "observation_out_of_range",
        "Observations",
        "choices in obs are below n, and bools are 0 or 1",
        "frame",
    ),
    Rule("reward_shape", "2 FRAME", "one reward for each declared component", "frame"),
    Rule("reward_not_finite", "2 FRAME", "rewards are finite as float32", "frame"),
    Rule("unknown_status", "2 FRAME", "status is 0, 1 or 2", "frame"),
    Rule(
        "action_shape",
        "Tensors",
        "an action has one part for each head, of its form",
        "action",
        "it sent neither expert nor took",
    ),
    Rule(
        "action_out_of_range",
        "Tensors",
        "an action is within its heads",
        "action",
        "it sent neither expert nor took",
    ),
    Rule(
        "metrics_shape",
        "Numbers of the game",
        "a frame has a number or none for each name that HELLO declares",
        "metrics",
        NO_METRICS,
    ),
    Rule("metric_not_finite", "Numbers of the game", "they are finite", "metrics", NO_METRICS),
    Rule("mask_size", "Legal actions", "a mask has the bytes that the heads take", "mask", NO_MASK),
    Rule(
        "no_legal_choice",
        "Legal actions",
        "each head has a legal choice while an episode goes on",
        "mask",
        NO_MASK,
    ),
    Rule(
        "action_illegal",
        "Legal actions",
        "what is recommended and was done is legal by its frame's mask",
        "action in a game with masks",
        "it declared no masks, or sent neither expert nor took",
    ),
    Rule(
        "took_on_first_frame",
        "took",
        "no took on the first frame of an episode",
        "took",
        "it sent no took",
    ),
    Rule("unknown_actor", "took", "the actor in took is 1 or 2", "took", "it sent no took"),
    Rule(
        "expert_missing",
        "Roles",
        "eval_expert: a recommendation in every episode",
        "eval_expert",
        "the client has another role",
    ),
    Rule("bye", "5 BYE", "a client that is done sends BYE", "bye", "it never ended by itself"),
    Rule(
        "bye-last", "5 BYE", "it closes behind BYE and sends nothing more", "bye", "it sent no BYE"
    ),
    Rule(
        "message_truncated",
        "Errors",
        "a connection ends behind a whole message",
        "ended",
        "it never ended by itself",
    ),
    Rule(
        "backoff",
        "When the connection ends",
        "it waits before it tries again",
        "back",
        "it never reconnected",
    ),
    Rule(
        "backoff-grows",
        "When the connection ends",
        "it waits longer each time it is refused",
        "refused often",
        "it did not reconnect three times",
    ),
]

TOLERATED: list[Rule] = [
    Rule("late-welcome", "The session", "WELCOME may take a while", ""),
    Rule("split", "Framing", "the server's bytes may come one at a time", ""),
    Rule("glued", "Framing", "SETTINGS, an answer and SETTINGS may come at once", ""),
    Rule("settings", "16 SETTINGS", "SETTINGS may come between a frame and its answer", ""),
    Rule("late-answer", "When you must wait", "an answer may take longer", ""),
    Rule(
        "later-versions",
        "Later versions",
        "unknown keys and elements behind the last are ignored",
        "",
    ),
    Rule("number-forms", "Values", "every msgpack form of a number is accepted", ""),
    Rule("last-frame", "12 ACTION", "the answer to an episode's last frame has no action", ""),
    Rule("cut", "When the connection ends", "it reconnects when the connection is lost", ""),
    Rule("half", "When the connection ends", "it reconnects when half a message was lost", ""),
    Rule("refused", "15 ERROR", "it reconnects when it is refused with retry", ""),
    Rule("error-retry", "15 ERROR", "it reconnects when a game ends by an ERROR with retry", ""),
    Rule("error-final", "15 ERROR", "it stays away when retry is false", ""),
]

RULES = SENT + TOLERATED


class Ledger:
    """What was seen of each rule."""

    def __init__(self) -> None:
        self.marks: set[str] = set()
        self.kept: set[str] = set()
        self.broken: dict[str, str] = {}
        """Rule to what was wrong, the first time."""
        self.unseen: dict[str, str] = {}

    def mark(self, *marks: str) -> None:
        self.marks.update(marks)

    def breach(self, rule: str, detail: str) -> None:
        """Note that a rule was broken."""
        self.broken.setdefault(rule, detail)

    def results(self) -> list[RuleResult]:
        out = []
        for rule in RULES:
            if rule.name in self.broken:
                result, detail = BROKEN, self.broken[rule.name]
            elif rule.name in self.kept or rule.mark in self.marks:
                result, detail = KEPT, ""
            else:
                result, detail = (
                    UNSEEN,
                    self.unseen.get(rule.name, rule.unseen) or "the check ended before it",
                )
            out.append(RuleResult(rule.name, rule.section, rule.text, result, detail))
        return out
