"""Pictures of the dashboard for the documents: `python -m scripts.dashboard_pictures`.

Runs the demo, waits until it has evaluated its network, and writes docs/dashboard-1440.png (a wide
screen, light) and docs/dashboard-390.png (a telephone, dark). With the address of a server that
runs already, it takes pictures of that one. Needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent

PICTURES = {
    "dashboard-1440.png": ((1440, 1800), "light"),
    "dashboard-390.png": ((390, 1700), "dark"),
}
"""File to size in CSS pixels, and scheme."""

PATIENCE_S = 1800.0
FRAMES = 8000
"""Of the run when it is shown."""


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("url", nargs="?", help="of a dashboard; without one, the demo is run")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where they go (docs)")
    parser.add_argument(
        "--all", action="store_true", help="each size in both schemes, whole pages, to look at"
    )
    args = parser.parse_args()
    if args.url:
        _take(args.url, args.folder, args.all)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-u", "-m", "server", "demo", "--env", "LunarLanderHybrid-v3",
            "--frames", str(4 * FRAMES), "--eval-every", str(FRAMES // 4),
            "--run", f"{folder}/demo", "--server.http_port", "0",
        ]  # fmt: skip
        demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert demo.stdout is not None
            lines = iter(demo.stdout)
            url = next(m[1] for line in lines if (m := re.search(r"dashboard: (\S+)", line)))
            _wait(url)
            _take(url, args.folder, args.all)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate()


def _wait(url: str) -> None:
    """Until there is something to see: frames, and evaluations of both."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with urlopen(url + "api/state") as answer:
            state = json.load(answer)
        last = state["last"]
        evaluated = len(state["evaluations"]) >= 2 and last["eval_return_mean"] is not None
        if evaluated and (last["frames"] or 0) > FRAMES and not state["evaluating"]:
            return
        time.sleep(1.0)
    raise SystemExit(f"expected {FRAMES} frames and an evaluation within {PATIENCE_S:g} s")


def _take(url: str, folder: Path, everything: bool) -> None:
    with sync_playwright() as tools:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, (size, scheme) in PICTURES.items():
            for each in ("light", "dark") if everything else (scheme,):
                path = folder / (name.replace(".", f"-{each}.") if everything else name)
                _picture(browser, url, path, size, each, whole=everything)
        browser.close()


def _picture(
    browser: Browser, url: str, path: Path, size: tuple[int, int], scheme: str, *, whole: bool
) -> None:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#status[data-is=live]")
    page.wait_for_function("document.querySelector('#chart-loss')?.chart.data[0].length > 3")
    page.wait_for_timeout(3000)
    page.screenshot(path=path, full_page=whole)
    print(path)
    context.close()


if __name__ == "__main__":
    main()
