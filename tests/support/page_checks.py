"""What is asked of a page in a browser: scripts that it evaluates."""

from __future__ import annotations

import re
import time
from typing import Any


def wait_true(page: Any, expression: str, arg: Any = None, patience_s: float = 60.0) -> None:
    """Wait until `expression` is true on the page.

    Playwright's `wait_for_function` evaluates inside the page from its second look on, and the
    Content-Security-Policy of our pages forbids that.
    """
    deadline = time.monotonic() + patience_s
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"not true within {patience_s:.0f} s: {expression}"
        page.wait_for_timeout(50)


NO_OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    const wide = [...document.querySelectorAll("body *")].filter((each) =>
        each.getBoundingClientRect().right > width + 1 && !each.closest(".scroll, .numbers, nav")
        && each.checkVisibility() && !each.matches(".skip"));
    return [document.documentElement.scrollWidth <= innerWidth,
        wide.map((each) => each.outerHTML.slice(0, 200))];
}"""

"""Whether nothing scrolls sideways, and what is too wide; wide tables have frames of their own."""

LOW_CONTRAST = """() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const paint = canvas.getContext("2d", { willReadFrequently: true });
    const rgb = (colors) => {
        for (const color of colors) {
            paint.fillStyle = color;
            paint.fillRect(0, 0, 1, 1);
        }
        return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (values) => values
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    const low = [];
    let seen = 0;
    for (const each of document.querySelectorAll("body *")) {
        const words = [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!words || !each.checkVisibility({ visibilityProperty: true })) continue;
        const under = [];
        for (let at = each; at; at = at.parentElement) {
            under.unshift(getComputedStyle(at).backgroundColor);
        }
        const [a, b] = [rgb(under), rgb([getComputedStyle(each).color])].map(light);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        seen += 1;
        if (contrast < 4.5) low.push(`${each.outerHTML.slice(0, 120)}: ${contrast}`);
    }
    return [seen, low];
}"""
"""How many elements have words, and those whose contrast is below 4.5."""


SIZES, SCHEMES = ((390, 844), (1440, 900)), ("light", "dark")
"""A phone and a desk, and the colors that people have their systems show."""


def check_readable(page: Any, least: int) -> None:
    """On every size of screen and in both schemes, nothing scrolls sideways, and at least so many
    elements have words, all of which can be read. What is drawn follows a little later."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            deadline = time.monotonic() + 20.0
            while True:
                fits, (words, low) = page.evaluate(NO_OVERFLOW), page.evaluate(LOW_CONTRAST)
                if (fits, low) == ([True, []], []) or time.monotonic() > deadline:
                    break
                page.wait_for_timeout(50)
            assert (fits, low) == ([True, []], []), (width, scheme)
            assert words >= least
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            is_dark = max(map(int, re.findall(r"\d+", background)[:3])) < 60
            assert is_dark == (scheme == "dark")
