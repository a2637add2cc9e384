"""Adam (Kingma and Ba 2015, arXiv:1412.6980) on one vector of parameters.

The same kernel as `torch.optim.Adam(fused=True)`, called directly, with the same numbers and the
same state. Making any optimizer of `torch.optim` imports torch's compiler (`torch._dynamo`), which
takes each trainer process seconds and which nothing here uses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agent.device import DeviceNumbers

BETA1, BETA2 = 0.9, 0.999
"""Decay of the running means of the gradient and of its square."""


class Adam:
    """The optimizer of one parameter vector, float32 [n]."""

    def __init__(self, vector: Tensor, *, lr: float, eps: float, ahead: int = 1) -> None:
        """`lr`: the first learning rate. `eps`: added to the root of the mean square. `ahead`: of
        so many steps to come the learning rates are kept."""
        self._vector = vector.detach()  # shares its memory
        self._eps = eps
        # What the kernels of each take: on the cpu a number of Python's precision.
        dtype = torch.float64 if vector.device.type == "cpu" else torch.float32
        self._rates = DeviceNumbers(vector.device, [lr] * ahead, dtype)
        self._state: dict[str, Tensor] = {}

    def set_rate(self, lr: float, ahead: int = 0) -> None:
        """The learning rate of the next step, or of one of those to come."""
        self._rates.set(ahead, lr)

    def step(self, gradient: Tensor, scale: Tensor, skip: Tensor, ahead: int = 0) -> None:
        """Move the vector by its gradient, float32 [n], which is divided by `scale` first, float32
        [] on the device, in its own memory too, as the vector is passed over anyway.

        `skip`: float32 [], on the device; where it is 1 the vector and the state stay as they are,
        and the host does not have to know. `ahead`: whose rate it has. Nothing waits for the
        device.
        """
        if not self._state:
            self._state = {
                "step": torch.zeros((), dtype=torch.float32, device=self._vector.device),
                "exp_avg": torch.zeros_like(self._vector),
                "exp_avg_sq": torch.zeros_like(self._vector),
            }
        step = self._state["step"]
        step += 1
        torch._fused_adam_(
            [self._vector],
            [gradient],
            [self._state["exp_avg"]],
            [self._state["exp_avg_sq"]],
            [],
            [step],
            lr=self._rates[ahead],
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
            grad_scale=scale,
            found_inf=skip,
        )
        step -= skip

    def state_dict(self) -> dict[str, Tensor]:
        """The state itself, not copies: `step` [], `exp_avg` [n] and `exp_avg_sq` [n], float32, as
        in `torch.optim.Adam`. Empty before the first step."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a copy of `state_dict`; an empty one starts afresh."""
        self._state = {
            name: state[name].to(self._vector.device, torch.float32, copy=True)
            for name in ("step", "exp_avg", "exp_avg_sq")
            if state
        }
