"""RLlib's side of the bench of RLlink: run by `lab.bench.rllink` with a Python that has ray[rllib],
and nothing of this project. `rllink_side.py CLIENTS SECONDS FLOATS ACTIONS HIDDEN...`.

RLlib's PPO learns from external environments over TCP, as its own example does
(rllib/examples/envs/env_connecting_to_rllib_w_tcp_client.py): each client has an EnvRunner of its
own, holds the network, decides by itself, and sends episodes in bulk; then it waits for new
weights.
Prints one JSON line.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import socket
import sys
import threading
import time
from typing import Any

PORT = 5555
BATCH = 4000
"""Frames of all clients that PPO learns from at a time, its default: each plays its part between
two deliveries."""

EPISODE_FRAMES = 997
WAIT_S = 300.0


def play(port: int, fragment: int, until: Any, out: list[tuple[float, float]]) -> None:
    """One client, until `until()`: when each frame was there, and how long its action took, s. Of
    that, waiting for weights is a part where there was a delivery before it."""
    import numpy as np
    import torch
    from ray.rllib.core import COMPONENT_RL_MODULE, Columns
    from ray.rllib.env.external.rllink import RLlink, get_rllink_message, send_rllink_message
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    sock = connected(port)

    def asked(message: dict[str, Any], answer: RLlink) -> Any:
        send_rllink_message(sock, message)
        kind, body = get_rllink_message(sock)
        assert kind == answer, kind
        return body

    asked({"type": RLlink.PING.name}, RLlink.PONG)
    config = pickle.loads(asked({"type": RLlink.GET_CONFIG.name}, RLlink.SET_CONFIG)["config"])
    module = config.get_rl_module_spec().build()
    state = asked({"type": RLlink.GET_STATE.name}, RLlink.SET_STATE)["state"]
    module.set_state(state[COMPONENT_RL_MODULE])
    rng = np.random.default_rng(port)
    shape = config.observation_space.shape
    obs = rng.standard_normal(shape).astype(np.float32)
    episodes, count, frames = [SingleAgentEpisode(observations=[obs])], 0, 0
    while not until():
        begin = time.perf_counter()
        if count == fragment:
            chunk = {"episodes": [each.get_state() for each in episodes], "timesteps": count}
            kind = RLlink.EPISODES_AND_GET_STATE.name
            state = asked({"type": kind, **chunk}, RLlink.SET_STATE)["state"]
            module.set_state(state[COMPONENT_RL_MODULE])
            last, count = episodes[-1], 0
            episodes = [SingleAgentEpisode(observations=[obs]) if last.is_done else last.cut()]
        with torch.no_grad():
            batch = {Columns.OBS: torch.from_numpy(obs[None])}
            logits = module.forward_exploration(batch)[Columns.ACTION_DIST_INPUTS][0]
            chances = torch.softmax(logits, 0)
            action = int(torch.multinomial(chances, 1))
        now = time.perf_counter()
        out.append((now, now - begin))
        frames += 1
        count += 1
        obs = rng.standard_normal(shape).astype(np.float32)
        over = frames % EPISODE_FRAMES == 0
        episodes[-1].add_env_step(
            action=action, reward=0.5, observation=obs, terminated=over, truncated=False,
            extra_model_outputs={
                Columns.ACTION_DIST_INPUTS: logits.numpy(),
                Columns.ACTION_LOGP: float(chances[action].log()),
            },
        )  # fmt: skip
        if over and count < fragment:
            episodes.append(SingleAgentEpisode(observations=[obs]))


def connected(port: int) -> socket.socket:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("localhost", port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def clients(ports: list[int], fragment: int, seconds: float, pipe: Any) -> None:
    """Clients of one process, each in a thread. Measures once all have played, for `seconds`."""
    import torch

    torch.set_num_threads(1)
    over = threading.Event()
    found: list[list[tuple[float, float]]] = [[] for _ in ports]
    threads = [
        threading.Thread(target=play, args=(port, fragment, over.is_set, out), daemon=True)
        for port, out in zip(ports, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + WAIT_S
    while any(len(out) <= fragment for out in found) and time.monotonic() < deadline:
        if not all(thread.is_alive() for thread in threads):
            raise SystemExit("a client has ended; what it said stands above")
        time.sleep(0.1)
    pipe.send("playing")
    pipe.recv()  # all of all processes do
    begin = time.perf_counter()
    time.sleep(seconds)
    over.set()
    end = begin + seconds
    frames = [list(out) for out in found]
    late = [each for out in frames for at, each in out if begin <= at <= end]
    pipe.send((late, max(end - out[-1][0] for out in frames)))  # one may wait for weights still


def main() -> None:
    many, seconds, floats, actions, *hidden = map(int, sys.argv[1:])
    fragment = BATCH // many
    import gymnasium
    import numpy as np
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.external.env_runner_server_for_external_inference import (
        EnvRunnerServerForExternalInference,
    )

    ray.init(num_cpus=many + 2, include_dashboard=False, log_to_driver=False)
    config = (
        PPOConfig()
        .environment(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (floats,), np.float32),
            action_space=gymnasium.spaces.Discrete(actions),
            env_config={"port": PORT},
        )
        .env_runners(
            env_runner_cls=EnvRunnerServerForExternalInference,
            num_env_runners=many,
            rollout_fragment_length=fragment,
        )
        .training(train_batch_size=fragment * many, num_epochs=1)
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=hidden, fcnet_activation="relu", vf_share_layers=True
            )
        )
    )
    algorithm = config.build_algo()
    threading.Thread(target=train, args=(algorithm,), daemon=True).start()
    ports = [PORT + index for index in range(1, many + 1)]  # as its EnvRunners are numbered
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(min(many, os.cpu_count() or 1)):
        pipe, theirs = context.Pipe()
        mine = ports[number :: os.cpu_count() or 1]
        context.Process(target=clients, args=(mine, fragment, seconds, theirs), daemon=True).start()
        pipes.append(pipe)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    told = [pipe.recv() for pipe in pipes]
    late = np.array([each for frames, _ in told for each in frames])
    longest = max(late.max(), *(waiting for _, waiting in told))
    p50, p99 = np.percentile(late, (50, 99)) * 1e3
    result = {
        "fps": round(len(late) / seconds), "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2), "longest_ms": round(float(longest) * 1e3, 1),
    }  # fmt: skip
    print(json.dumps(result), flush=True)
    ray.shutdown()
    os._exit(0)  # with threads that wait for their games


def train(algorithm: Any) -> None:
    while True:
        algorithm.train()


if __name__ == "__main__":
    main()
