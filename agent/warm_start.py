"""Warm start: the weights of another run's network, as far as they mean the same in this one.

Every row and column of a layer has a label that says what it is: the third number of the newest
frame, unit 7 of `trunk.0`, choice 2 of the head `fire`. A layer's rows are taken where both
networks have them and all that the old layer read is there, with the same meaning, in the new one;
what the new one reads beside it begins with weight 0. So what is taken says what it said before.

Numbers of an observation with one side, and choices of a head, keep their places: where there are
more, those behind are new. Where there are fewer, nothing says which ones went, and none is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from agent.checkpoint import CheckpointError
from agent.choices import Choices
from agent.convolutions import Convolutions
from agent.learner import Learner
from agent.looks import Look
from agent.network_settings import settings_of
from agent.networks import QNetwork, encoder_name
from agent.normalizer import rearranged
from agent.recurrent import RecurrentMemory
from agent.values import CategoricalValues, QuantileValues, ValueHead
from config.models import LearnerConfig
from protocol.errors import RemoteError
from protocol.observations import NAME, channel_sides, height_and_width
from protocol.spaces import Discrete, GameSpec

NORMALIZED = ", normalized"

Label = tuple[Any, ...]
"""What a row or column is; its first two parts are a name and a kind, in words."""


class LabelledLayer(NamedTuple):
    """Parameters `weight` [outputs, inputs, ...] and `bias` [outputs]."""

    name: str
    inputs: Sequence[Label]
    outputs: Sequence[Label]


class NothingFits(CheckpointError):
    """No layer of the old network means anything in the new one."""


@dataclass(frozen=True)
class Taken:
    """What a warm start has taken, and what not, in words."""

    taken: list[str]
    not_taken: list[str]


def warm_start(learner: Learner, spec: GameSpec, state: Mapping[str, Any]) -> Taken:
    """Put the weights of a checkpoint's networks into a learner of a game `spec`, as far as they
    fit: online and target network, and the statistics of the observations. `state`: as
    agent.checkpoint has loaded it, of any game.

    Errors: NothingFits; CheckpointError where it is no trainer's. The learner is then as it was.
    """
    try:
        old_spec = msgspec.json.decode(state["spec"], type=GameSpec).checked()
        old = state["learner"]
        settings = settings_of(old)
        network = _network(old_spec, settings)
        network.load_state_dict(old["network"])
    except (RemoteError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            "expected what a trainer saves, got a state whose network cannot be made anew "
            f"({error!r}); name another checkpoint"
        ) from error
    shrunk = {
        head.name
        for head in old_spec.discrete
        for now in spec.discrete
        if head.name == now.name and head.n > now.n
    }
    there, here = (
        Labels(network, old_spec, shrunk, known_range="learner.value_min" in settings),
        Labels(learner.network, spec, shrunk),
    )
    rows, said = _shared(there, here)
    if not said.taken:
        raise NothingFits(
            f"nothing of it fits the game {spec.describe()} and the settings of this run: "
            + "; ".join(said.not_taken)
            + ". Name a checkpoint of a game that is more alike, or give the network the settings "
            "that it has there (understudy compare shows them)"
        )
    for ours, theirs in ((learner.network, old["network"]), (learner.target, old["target"])):
        _copy(ours, theirs, there, here, rows)
    learner.untaught = False
    if learner.statistics is not None and "observations" in old and here.reads_all(there):
        places = {label: at for at, label in enumerate(there.normalized)}
        sources = [places.get(label) for label in here.normalized]
        learner.set_statistics(rearranged(old["observations"], sources))
        said.taken.insert(0, "statistics of the observations")
    return said


class Labels:
    """The layers of a network, in the order in which an observation passes through them."""

    def __init__(
        self,
        network: QNetwork,
        spec: GameSpec,
        shrunk: Iterable[str] = (),
        *,
        known_range: bool = True,
    ) -> None:
        """`shrunk`: discrete heads whose choices are known by their number and the head's size.
        `known_range`: where values have a range, it is that of the network."""
        self.layers: list[LabelledLayer] = []
        self.observation: list[Label] = []
        """What the first layers read."""
        self.places: list[Label] = []
        """What the last convolutions say, place by place."""
        self.embeddings: dict[str, tuple[list[Label], list[Label]]] = {}
        """What each reads, and what it says."""
        features: list[Label] = []
        for number, (look, encoder) in enumerate(zip(network.looks, network.encoders, strict=True)):
            read = _read_of(look)
            self.observation += read
            if isinstance(encoder, Convolutions):
                read = self._pictures(encoder_name(network.looks, number), look, encoder, read)
                self.places += read
            elif isinstance(encoder, Choices) and encoder.embedding is not None:
                name = f"{encoder_name(network.looks, number)}.embedding"
                chosen, read = read, [(name, "embedding", at) for at in range(encoder.size)]
                self.embeddings[name] = chosen, read
            features += read
        self.normalized = [
            label for label in self.observation if NORMALIZED in label[1] and label[2] == 0
        ]
        """Of the newest frame, what is shown less its mean: the columns of the statistics."""
        columns = [("action", *each) for each in _columns(spec)]
        self.given = [*self.observation, *columns]
        """What is there before any layer."""
        if network.memory is not None:
            features = [*features, *self._memory(features, network.memory)]
        last = self._stack("trunk", features, network.trunk)
        kind = _values(network.values, known_range)
        beside = _continuous(spec)
        if network.follows_gradient:
            self._stack("policy", features, network.policy[:-1])
            inner = self.layers[-1].outputs if len(network.policy) > 1 else features
            name = f"policy.{len(network.policy) - 1}"
            self.layers.append(
                LabelledLayer(name, inner, [("policy: " + a, *b) for a, *b in beside])
            )
            units = _units("joint", network.joint.weight)
            self.layers.append(LabelledLayer("joint", [*last, *columns], units))
            last, beside = units, []
        elif network.bins:
            beside = []
        atoms = range(network.values.atoms)
        heads: list[Label] = [("value", kind, k) for k in atoms]
        for head in spec.discrete:
            words = f"{head.n} choices, {kind}" if head.name in shrunk else f"choices, {kind}"
            heads += [(f"head {head.name}", words, i, k) for i in range(head.n) for k in atoms]
        for name, words, *column in _continuous(spec) if network.bins else ():
            words = f"{network.bins} bins, {words}, {kind}"
            heads += [(name, words, *column, i, k) for i in range(network.bins) for k in atoms]
        self.layers.append(LabelledLayer("heads", last, [*heads, *beside]))

    def reads_all(self, other: Labels) -> bool:
        """Whether the observations hold all that those of the other hold."""
        return set(other.observation) <= set(self.observation)

    def _stack(self, name: str, inputs: Sequence[Label], layers: Iterable[Any]) -> Sequence[Label]:
        for number, layer in enumerate(layers):
            outputs = _units(f"{name}.{number}", layer.weight)
            self.layers.append(LabelledLayer(f"{name}.{number}", inputs, outputs))
            inputs = outputs
        return inputs

    def _memory(self, inputs: Sequence[Label], memory: RecurrentMemory) -> Sequence[Label]:
        """A third of the rows says what the state becomes: they stand for it."""
        gates = _units("memory.read", memory.read.weight)
        recalled = _units("memory.recall", memory.recall.weight)
        self.layers.append(LabelledLayer("memory.read", inputs, gates))
        self.layers.append(LabelledLayer("memory.recall", gates[: memory.size], recalled))
        return recalled[: memory.size]

    def _pictures(
        self, of: str, look: Look, encoder: Convolutions, inputs: Sequence[Label]
    ) -> list[Label]:
        for number, layer in enumerate(encoder.layers):
            if isinstance(layer, torch.nn.Conv2d):
                name = f"{of}.layers.{number}"
                outputs = _units(name, layer.weight)
                self.layers.append(LabelledLayer(name, inputs, outputs))
                inputs = outputs
        places = encoder.size // len(inputs)
        size = height_and_width(look.observation)
        return [(*label, size, place) for label in inputs for place in range(places)]


def _shared(there: Labels, here: Labels) -> tuple[dict[str, set[Label]], Taken]:
    """By layer, the rows that are taken; and what that is in words."""
    old = {layer.name: layer for layer in there.layers}
    known = set(there.given) & set(here.given)
    rows: dict[str, set[Label]] = {}
    said = Taken([], [])
    for name, (read, outputs) in here.embeddings.items():
        if there.embeddings.get(name) == (read, outputs):
            known.update(outputs)
            said.taken.append(name)
        else:
            said.not_taken.append(f"{name} (its choices are not the same)")
    for layer in here.layers:
        before = old.get(layer.name)
        readable = before is not None and known.issuperset(before.inputs)
        found = set(layer.outputs) & set(before.outputs) if before and readable else set()
        if found:
            rows[layer.name] = found
            known |= found
            known |= {place for place in here.places if place[:3] in found}
        added = len(layer.inputs) - len(before.inputs) if before else 0
        for name, kinds in _groups(layer.outputs).items():
            was = _groups(before.outputs).get(name) if before else None
            total = sum(label[0] == name for label in layer.outputs)
            kept = sum(label[0] == name for label in found)
            if kept:
                part = f" ({kept:,} of {total:,} rows)" if kept < total else ""
                more = f" ({added:,} new inputs begin with weight 0)" if added else ""
                said.taken.append(name + part + more)
            elif was is None:
                said.not_taken.append(f"{name} (it is not there)")
            elif was != kinds:
                said.not_taken.append(f"{name} ({', '.join(kinds)}; there: {', '.join(was)})")
            elif before and layer.inputs[0][0] in ("number", "plane", "choice"):
                said.not_taken.append(f"{name} (it reads {_read(layer)}; there: {_read(before)})")
            else:
                said.not_taken.append(f"{name} (what it reads is not taken)")
    for gone in there.layers:
        for group in _groups(gone.outputs):
            if all(label[0] != group for layer in here.layers for label in layer.outputs):
                said.not_taken.append(f"{group} of the old network has no place here")
    return rows, said


@torch.no_grad()
def _copy(
    network: QNetwork,
    tensors: Mapping[str, Tensor],
    there: Labels,
    here: Labels,
    rows: Mapping[str, set[Label]],
) -> None:
    old = {layer.name: layer for layer in there.layers}
    ours = dict(network.named_parameters())
    for name, embedding in here.embeddings.items():
        if there.embeddings.get(name) == embedding:
            ours[f"{name}.weight"].copy_(tensors[f"{name}.weight"])
    scale = tensors.get("value_scale", torch.ones(())).to(network.value_scale.device)
    scale = scale / network.value_scale
    for layer in here.layers:
        if layer.name not in rows:
            continue
        before = old[layer.name]
        row_of = {label: at for at, label in enumerate(before.outputs)}
        column_of = {label: at for at, label in enumerate(before.inputs)}
        taken = [at for at, label in enumerate(layer.outputs) if label in rows[layer.name]]
        source = [row_of[layer.outputs[at]] for at in taken]
        read = [at for at, label in enumerate(layer.inputs) if label in column_of]
        columns = [column_of[layer.inputs[at]] for at in read]
        weight, bias = ours[f"{layer.name}.weight"], ours[f"{layer.name}.bias"]
        theirs = tensors[f"{layer.name}.weight"][source][:, columns].to(weight.device)
        their_bias = tensors[f"{layer.name}.bias"][source].to(bias.device)
        if layer.name == "heads":  # values in units of the game say the same at any scale
            scaled = [i for i, at in enumerate(taken) if at < network.value_outputs]
            theirs[scaled] *= scale
            their_bias[scaled] *= scale
        fresh = torch.zeros_like(weight[taken])
        fresh[:, read] = theirs
        weight[taken] = fresh
        bias[taken] = their_bias


def _network(spec: GameSpec, settings: Mapping[str, Any]) -> QNetwork:
    """A network as a checkpoint's settings say. Errors: ValueError, RuntimeError."""
    own = {
        key.removeprefix("learner."): value
        for key, value in settings.items()
        if key.startswith("learner.")
    }
    return QNetwork(spec, LearnerConfig(**own), frame_stack=settings.get("replay.frame_stack", 1))


def _read_of(look: Look) -> list[Label]:
    """A label for each plane of a picture, each choice, or each number; the oldest frame first."""
    observation, ages = look.observation, reversed(range(look.stack))
    name = "" if observation.name == NAME else f"{observation.name}, "
    bounds = "" if observation.low is None else f", {observation.low:g} to {observation.high:g}"
    if look.through == "choices":
        return [
            ("choice", f"{name}of {n}", age, element, choice)
            for age in ages
            for element, n in enumerate(observation.choices)
            for choice in range(n)
        ]
    if look.through == "convolutions":
        planes = math.prod(observation.shape[side] for side in channel_sides(observation))
        return [
            ("plane", f"{name}of {planes}{bounds}", age, plane)
            for age in ages
            for plane in range(planes)
        ]
    kind = name + observation.dtype + NORMALIZED * look.normalized
    if len(observation.shape) > 1:
        kind += f", {observation.shape}"
    if look.factor != 1:
        kind += bounds
    return [("number", kind, age, place) for age in ages for place in range(observation.size)]


def _columns(spec: GameSpec) -> list[Label]:
    """A label for each continuous column."""
    return [
        (head.name, f"size {head.size}, from {head.low:g} to {head.high:g}", column)
        for head in spec.actions
        if not isinstance(head, Discrete)
        for column in range(head.size)
    ]


def _continuous(spec: GameSpec) -> list[Label]:
    return [(f"head {name}", *more) for name, *more in _columns(spec)]


def _values(values: ValueHead, known_range: bool) -> str:
    """What K numbers say of a value."""
    if isinstance(values, CategoricalValues):
        low, high = float(values.support[0]), float(values.support[-1])
        ends = f"from {low:g} to {high:g}" if known_range else "of a range that is not known"
        return f"c51 with {values.atoms} atoms {ends}"
    return f"{values.atoms} quantiles" if isinstance(values, QuantileValues) else "scalar"


def _units(name: str, weight: Tensor) -> list[Label]:
    kernel = "".join(f" of {' x '.join(map(str, weight.shape[2:]))}" for _ in weight.shape[2:3])
    kind = f"{len(weight)} units{kernel}"
    return [(name, kind, unit) for unit in range(len(weight))]


def _read(layer: LabelledLayer) -> str:
    """What a first layer reads."""
    name, kind, *_ = layer.inputs[0]
    return f"{len(layer.inputs):,} x {name} ({kind})"


def _groups(labels: Iterable[Label]) -> dict[str, list[str]]:
    """Kinds by name, each once, in their order."""
    found: dict[str, list[str]] = {}
    for name, kind, *_ in labels:
        kinds = found.setdefault(name, [])
        if kind not in kinds:
            kinds.append(kind)
    return found
