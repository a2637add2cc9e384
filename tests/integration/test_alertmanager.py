"""Alertmanager of deploy/: Prometheus finds it, and an alert reaches the receiver in words."""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import yaml

from scripts.container import compose as composing
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy/alertmanager/alertmanager.yml"
COMPOSE = composing.read((ROOT / "docker-compose.yml").read_text())
SERVICE = composing.services(COMPOSE)["alertmanager"]
SECRET = "/run/secrets/alert_url"


def test_prometheus_sends_alerts_to_the_service() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (managers,) = prometheus["alerting"]["alertmanagers"]
    assert managers["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert composing.published(SERVICE) == [("127.0.0.1", 9093, 9093)]


def test_service_mounts_its_files_and_its_secret() -> None:
    (place,) = (w.partition("=")[2] for w in SERVICE["command"] if w.startswith("--config.file="))
    mounted = {target: source for source, target, _ in composing.mounts(SERVICE)}
    assert ROOT / mounted[str(Path(place).parent)] == CONFIG.parent
    assert Path(place).name == CONFIG.name
    assert SERVICE["secrets"] == [Path(SECRET).name]
    assert COMPOSE["secrets"]["alert_url"] == {"file": "./secrets/alert_url"}
    assert re.findall(r"/run/secrets/\w+", CONFIG.read_text()) == [SECRET]
    assert "secrets/alert_url" in (ROOT / "docs/operating.md").read_text()


def test_every_route_ends_at_the_one_receiver() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    (receiver,) = config["receivers"]
    route = config["route"]
    assert {route["receiver"], *(one["receiver"] for one in route["routes"])} == {receiver["name"]}


@needs("amtool")
def test_amtool_accepts_the_configuration() -> None:
    ran = subprocess.run(
        ["amtool", "check-config", str(CONFIG)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


class Chat(BaseHTTPRequestHandler):
    """Takes what an incoming webhook gets."""

    messages: queue.Queue[Any] = queue.Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.messages.put(json.loads(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(config: Path, folder: Path) -> Iterator[str]:
    """Its address, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus-alertmanager", f"--config.file={config}",
             f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
             "--cluster.listen-address="],
            stdout=log, stderr=log, env=os.environ | {"http_proxy": "", "HTTP_PROXY": ""},
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                with urlopen(f"{address}/-/ready", timeout=5):
                    break
            except URLError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def raised(address: str, name: str, severity: str, instance: str, summary: str) -> None:
    """An alert, as Prometheus would send it."""
    labels = {"alertname": name, "severity": severity, "instance": instance, "job": "understudy"}
    alert = {"labels": labels, "annotations": {"summary": summary, "description": "Do this."}}
    asked = Request(
        f"{address}/api/v2/alerts", json.dumps([alert]).encode(),
        {"content-type": "application/json"},
    )  # fmt: skip
    with urlopen(asked, timeout=30):
        pass


@needs("prometheus-alertmanager")
def test_alert_reaches_the_chat_in_words_and_a_server_that_is_down_sends_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    with chat() as port:
        (tmp_path / "url").write_text(f"http://127.0.0.1:{port}/hook\n")
        text = CONFIG.read_text().replace(SECRET, str(tmp_path / "url"))
        text = re.sub(r"group_wait: \d+s", "group_wait: 1s", text)
        (tmp_path / "config.yml").write_text(text)
        with alertmanager(tmp_path / "config.yml", tmp_path) as address:
            raised(address, "UnderstudyDown", "critical", "a:8080", "The server does not answer")
            time.sleep(0.5)  # it is known before what it holds back
            raised(address, "UnderstudyForgets", "warning", "a:8080", "It forgets")
            raised(address, "UnderstudyRingFull", "warning", "b:8080", "Games wait")
            found = {}
            for _ in range(2):
                (message,) = Chat.messages.get(timeout=60)["attachments"]
                found[message["title"]] = message["text"]
            assert found.keys() == {"CRITICAL: a:8080", "WARNING: b:8080"}
            assert (
                "The server does not answer (UnderstudyDown, critical). Do this."
                in found["CRITICAL: a:8080"]
            )
            assert "Games wait (UnderstudyRingFull, warning). Do this." in found["WARNING: b:8080"]
            assert Chat.messages.empty()
