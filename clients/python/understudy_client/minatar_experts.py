"""Experts for the games of MinAtar: for each one that plays well, and one that plays safe.

Of those that play safe (`timid_*`) who copies learns less than who tries. Each is a function (env,
observation) -> action of what is seen: a field [row, column, channel] of bools, rows counted from
the top. docs/experts.md has what they score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.bool_]
Cell = tuple[int, int]
"""Row and column."""
Mover = tuple[int, int, int]
"""Row, column, and by how many columns it moves to the right."""

LAST = 9
"""The highest row and column."""


def breakout(_env: Any, obs: Field) -> int:
    """Goes to where the ball will come down."""
    paddle = _cell(obs[..., 0])[1]
    return _towards(_comes_down(obs, paddle), paddle)


def timid_breakout(_env: Any, obs: Field) -> int:
    """Waits in the middle until the ball falls and is low: it is late for what falls far away."""
    (_, paddle), (y, _), (before, _) = (_cell(obs[..., each]) for each in range(3))
    low = before < y and y > 4
    return _towards(_comes_down(obs, paddle) if low else 4, paddle)


def asterix(_env: Any, obs: Field) -> int:
    """Goes for the nearest gold, around enemies."""
    at, gold, enemies = _asterix(obs)
    danger = {(y, x + k * dx) for y, x, dx in enemies for k in range(3)}
    targets = [(y, x + dx) for y, x, dx in gold] or [(4, 4)]
    return _step(at, targets, danger)


def timid_asterix(_env: Any, obs: Field) -> int:
    """Keeps to rows without enemies, and takes only the gold that comes close."""
    at, gold, enemies = _asterix(obs)
    danger = {(y, x + k * dx) for y, x, dx in enemies for k in range(-1, 6)}
    near = [(y, x) for y, x, _ in gold if abs(y - at[0]) + abs(x - at[1]) <= 2]
    return _step(at, near or [at], danger)


def freeway(_env: Any, obs: Field) -> int:
    """Crosses while no car of the next row is about to be where it goes."""
    return _cross(obs, wait=2)


def timid_freeway(_env: Any, obs: Field) -> int:
    """Crosses only while every car of the next row is far."""
    return _cross(obs, wait=6)


def space_invaders(_env: Any, obs: Field) -> int:
    """Shoots at whatever is above, steps out of the way of what falls, follows the aliens."""
    cannon, aliens, unsafe = _invaders(obs)
    if cannon in unsafe:
        return _aside(cannon, unsafe)
    if cannon in aliens:
        return _FIRE
    column = min(aliens, key=lambda x: abs(x - cannon), default=cannon)
    step = int(np.sign(column - cannon))
    return _STAY if cannon + step in unsafe else _towards(column, cannon)


def timid_space_invaders(_env: Any, obs: Field) -> int:
    """Hides at the edge, steps out of the way of what falls, and shoots only at what has come low
    above it, while nothing is flying."""
    cannon, _, unsafe = _invaders(obs)
    if cannon in unsafe:
        return _aside(cannon, unsafe)
    if obs[5:, cannon, 1].any() and not obs[..., 4:6].any():
        return _FIRE
    return _STAY if {cannon - 1, cannon} & unsafe else _towards(0, cannon)


def seaquest(_env: Any, obs: Field) -> int:
    """Shoots at what is in its row, fetches divers, and comes up for air while it has one."""
    (y, x), right, oxygen, divers = _submarine(obs)
    enemies = _movers(obs[..., 5] | obs[..., 6], obs[..., 3])
    danger = _sea_danger(obs, enemies)
    if divers and (oxygen <= 3 or divers == 6):
        return _step((y, x), [(0, x)], danger, floor=8)
    for ey, ex, _ in sorted(enemies, key=lambda each: abs(each[1] - x)):
        if ey == y and ex != x and (y, x) not in danger:
            if (ex > x) == right:
                return _SHOOT
            if abs(ex - x) > 2:
                return _RIGHT if ex > x else _LEFT
    fetch = [(dy, dx) for dy, dx in _cells(obs[..., 9]) if dy > 0]
    hunt = [(ey, min(max(ex, 2), LAST - 2)) for ey, ex, _ in enemies if ey > 0]
    targets = fetch if fetch and divers < 6 else hunt or [(4, 4)]
    return _step((y, x), targets, danger | {(0, each) for each in range(LAST + 1)}, floor=8)


def timid_seaquest(_env: Any, obs: Field) -> int:
    """Keeps out of the way, shoots only at what comes near in its row, and fetches no diver but
    what is next to it."""
    (y, x), right, oxygen, divers = _submarine(obs)
    enemies = _movers(obs[..., 5] | obs[..., 6], obs[..., 3])
    danger = _sea_danger(obs, enemies)
    if divers and oxygen <= 3:
        return _step((y, x), [(0, x)], danger, floor=8)
    if any(ey == y and 0 < (ex - x if right else x - ex) <= 3 for ey, ex, _ in enemies):
        return _SHOOT
    near = [(dy, dx) for dy, dx in _cells(obs[..., 9]) if abs(dy - y) + abs(dx - x) <= 2]
    return _step(
        (y, x), near or [(4, 4)], danger | {(0, each) for each in range(LAST + 1)}, floor=8
    )


# What is seen.


def _cell(channel: Field) -> Cell:
    """Where the only thing of a channel is."""
    row, column = divmod(int(channel.argmax()), LAST + 1)
    return row, column


def _cells(channel: Field) -> list[Cell]:
    return [(int(row), int(column)) for row, column in np.argwhere(channel)]


def _movers(things: Field, trail: Field) -> list[Mover]:
    """Things and where they go: away from the trail behind them; what just came in has none yet."""
    found = []
    for y, x in _cells(things):
        behind = x > 0 and bool(trail[y, x - 1])
        found.append((y, x, 1 if behind or x == 0 else -1))
    return found


def _comes_down(obs: Field, paddle: int) -> int:
    """The column in which the ball of Breakout will come down, as far as bricks are foreseen."""
    (y, x), (before_y, before_x) = _cell(obs[..., 1]), _cell(obs[..., 2])
    bricks = obs[..., 3].copy()
    dy, dx = y - before_y, x - before_x or (1 if x == 0 else -1)
    if dy == 0 and y == LAST - 1:  # it was hit, with the edge that sends it back, or not
        dy, dx = -1, dx if before_x == paddle else -dx
    dy = dy or 1  # a brick was
    for _ in range(40):
        if dy > 0 and y == LAST - 1:
            break
        y, x, above, beside = y + dy, x + dx, y, x
        if not 0 <= x <= LAST:
            x, dx = beside, -dx
        if y < 0:
            y, dy = 0, 1
        elif bricks[y, x]:
            bricks[y, x] = False
            y, dy = above, -dy
    return x


def _asterix(obs: Field) -> tuple[Cell, list[Mover], list[Mover]]:
    """The player, gold, enemies."""
    player, enemy, trail, gold = (obs[..., each] for each in range(4))
    return _cell(player), _movers(gold, trail), _movers(enemy, trail)


def _invaders(obs: Field) -> tuple[int, set[int], set[int]]:
    """The cannon's column, which columns have aliens, and columns where something falls that is
    near."""
    aliens, bullets = _cells(obs[..., 1]), _cells(obs[..., 5])
    unsafe = {x for y, x in bullets if y >= 5} | {x for y, x in aliens if y >= 8}
    return _cell(obs[..., 0])[1], {x for _, x in aliens}, unsafe


def _submarine(obs: Field) -> tuple[Cell, bool, int, int]:
    """Where it is, whether it looks to the right, tenths of its oxygen, divers on board."""
    front, back = _cell(obs[..., 0]), _cell(obs[..., 1])
    return front, back[1] == front[1] - 1, int(obs[..., 7].sum()), int(obs[..., 8].sum())


def _sea_danger(obs: Field, enemies: Sequence[Mover]) -> set[Cell]:
    """Cells where something deadly is or soon will be. Of a bullet nobody sees where it goes."""
    bullets = {(y, x + k) for y, x in _cells(obs[..., 4]) for k in (-2, -1, 0, 1, 2)}
    return bullets | {(y, x + k * dx) for y, x, dx in enemies for k in range(3)}


# What is done. Games have the first of these actions that they need.

_STAY, _LEFT, _UP, _RIGHT, _DOWN, _SHOOT = range(6)
_FIRE = 3
"""Of Space Invaders, which has no up and down."""


def _towards(column: int, at: int) -> int:
    """Of games with stay, left, right."""
    return int(np.sign(column - at)) % 3 and (1 if column < at else 2)


def _aside(at: int, unsafe: set[int]) -> int:
    """To the nearest column where nothing falls."""
    safe = [x for x in range(LAST + 1) if x not in unsafe]
    return _towards(min(safe, key=lambda x: abs(x - at), default=at), at)


def _step(at: Cell, targets: Iterable[Cell], danger: set[Cell], floor: int = 8) -> int:
    """The action that leads out of danger, and then nearest to a target, of stay, left, up, right,
    down. The rows of the game end at `floor`."""
    targets = list(targets)

    def cost(action: int) -> float:
        y, x = at
        y += (action == _DOWN) - (action == _UP)
        x += (action == _RIGHT) - (action == _LEFT)
        if not (0 <= y <= floor and 0 <= x <= LAST):
            return 200.0
        far = min(abs(ty - y) + abs(tx - x) for ty, tx in targets)
        return far + 100.0 * ((y, x) in danger) + 0.1 * (action != _STAY)

    return min(range(5), key=cost)


def _cross(obs: Field, wait: int) -> int:
    """Up where no car of the next row comes to the chicken's column within `wait` steps, of stay,
    up, down."""
    y, x = _cell(obs[..., 0])
    if y == 1:
        return 1  # beyond is the goal
    car = int(obs[y - 1, :, 1].argmax())
    speed = int(obs[y - 1, :, 2:].any(axis=0).argmax()) + 1  # steps between two moves
    behind = int(obs[y - 1, :, 2:].any(axis=1).argmax())
    dx = 1 if (car - behind) % 10 == 1 else -1
    reach = {(car + k * dx) % 10 for k in range(wait // speed + 2)}
    return 0 if x in reach else 1
