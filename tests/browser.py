"""Pages as a parser and as Chromium see them."""

import json
import os
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

QUIET = ("quic", "background-networking", "component-update", "sync")


class Page(HTMLParser):
    """What a page holds: its elements with their attributes, its text, and the cells of its rows by their first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_data(self, data: str) -> None:
        if not self.elements or self.elements[-1][0] in ("style", "script"):
            return
        self.words += data
        if self.in_cell:
            self.rows[-1][-1] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")


def require_chromium() -> str:
    """Return the program; without it, skip the test, or fail where all must run."""
    program = shutil.which("chromium")
    if program is None:
        reason = "chromium is not installed, so NOBODY HAS LOOKED whether a browser shows the page"
        (pytest.fail if os.environ.get("GSCHED_REQUIRE_ALL") else pytest.skip)(reason)
    return program


def chromium(folder: Path, page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page in Chromium without a window, with a new profile in a folder."""
    program = require_chromium()
    profile = folder / f"profile{len(list(folder.iterdir()))}"
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    command += [*(f"--disable-{part}" for part in QUIET), f"--user-data-dir={profile}", "--enable-logging=stderr"]
    command += ["--v=0", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a page's console said."""
    return [line for line in done.stderr.splitlines() if re.search(":CONSOLE[:(]", line)]


def browse(folder: Path, page: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the DOM of a page in Chromium and what its console said; a screenshot lands beside the page."""
    done = chromium(folder, page, "--dump-dom", f"--screenshot={page.with_suffix('.png')}", *flags)
    return done.stdout, console(done)


PROBE = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<style>body { margin: 0 } iframe { border: 0; display: block }</style>
<iframe width="%d" height="%d" srcdoc="%s"></iframe><iframe hidden></iframe><script>
const held = frames[1].document;  // an open document keeps Chromium from taking its picture
held.open();
document.querySelector("iframe").onload = async () => {
  const view = frames[0], page = view.document, all = query => [...page.querySelectorAll(query)];
  const style = element => view.getComputedStyle(element), box = element => element.getBoundingClientRect();
  const frame = () => new Promise(done => view.requestAnimationFrame(() => setTimeout(done)));
  const picture = canvas => {  // to be read from, without a warning that it is slow
    const copy = page.createElement("canvas").getContext("2d", {willReadFrequently: true});
    [copy.canvas.width, copy.canvas.height] = [canvas.width, canvas.height];
    copy.drawImage(canvas, 0, 0);
    return copy;
  };
  const probe = async () => { %s };
  try { document.title = JSON.stringify(await probe()); }
  catch (error) { document.title = JSON.stringify(String(error.stack)); }
  await frame();
  held.close();
};
</script>"""


def probed(folder: Path, page: Path, width: int, script: str, *flags: str, height: int = 1600) -> Any:
    """Return what a script around a page returns where the page has such a width.

    Chromium has no window below 500 pixels, so the page stands in a frame of another. The script sees `view` and
    `page`, its window and document, and `all`, `style`, `box`, `frame` (until the next picture) and `picture`.
    """
    probe = folder / "probe.html"
    text = page.read_text(encoding="utf-8")
    probe.write_text(PROBE % (width, height, escape(text), script), encoding="utf-8")
    dom, said = browse(folder, probe, f"--window-size={max(width, 1200)},{height}", *flags)
    assert said == []
    return json.loads(unescape(re.search("<title>(.*?)</title>", dom, re.DOTALL)[1]))
