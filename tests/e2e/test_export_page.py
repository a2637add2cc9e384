"""The code of docs/export.md, as it is printed there, against what the exported network says."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from agent.networks import QNetwork
from config.models import LearnerConfig
from protocol.spaces import Discrete, GameSpec, Observation
from server.commands.exported_network import Trained
from server.commands.onnx_model import onnx_file
from server.commands.torchscript_model import torchscript_file
from server.play.policy_file import PolicyFile
from tests.support.browser import chromium, needs_chromium
from tests.support.markdown import ROOT, blocks
from tests.support.needs import needs

PAGE = (ROOT / "docs/export.md").read_text()
WEB = ROOT / ".onnxruntime-web"
OBSERVATION = np.array([[0.01, -0.02, 0.03, 0.04]], np.float32)
"""That of the page."""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy in both formats: the network's choice is neither the first nor the
    last one."""
    path = tmp_path_factory.mktemp("door_page")
    torch.manual_seed(0)
    spec = GameSpec("cart", Observation("float32", (4,)), (Discrete("move", 7),)).checked()
    network = QNetwork(spec, LearnerConfig(hidden=(16,))).requires_grad_(False).eval()
    network.heads.bias[1 + 4] += 10
    known = Trained(network, spec, 1, "run", 12, 345)
    (path / "policy.onnx").write_bytes(onnx_file(known)[0])
    (path / "policy.pt").write_bytes(torchscript_file(known)[0])
    return path


@pytest.fixture(scope="module")
def chosen(folder: Path) -> int:
    (row,) = PolicyFile.load(folder / "policy.onnx").act(OBSERVATION)
    assert row[0] == 4
    return int(row[0])


@pytest.mark.parametrize("block", blocks(PAGE, "python"), ids=["onnxruntime", "torch"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_python_of_the_page_prints_the_choice(
    block: str, folder: Path, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, "docs/export.md", "exec"), {})
    assert out.getvalue().strip() == str(chosen)


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@needs_chromium
@needs("npm", there=WEB.is_dir(), fetch="scripts/fetch-onnxruntime-web")
def test_javascript_of_the_page_logs_the_choice_in_chromium(folder: Path, chosen: int) -> None:
    (script,) = blocks(PAGE, "js")
    for file in WEB.iterdir():
        with contextlib.suppress(FileExistsError):
            (folder / file.name).symlink_to(file)
    (folder / "page.html").write_text(f'<script type="module">\n{script}\n</script>\n')
    said: list[str] = []
    with served(folder) as url, chromium() as browser:
        page = browser.new_page()
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        with page.expect_console_message(lambda m: m.type == "log", timeout=60_000) as message:
            page.goto(url + "page.html")
        assert (message.value.text, said) == (str(chosen), [])
