"""Measure the page of gsched report in Chromium: its size, when it can be used, and how long a change of view takes.

A page stands in a frame of another, which looks at its clock: `usable` is from the beginning of the page until it is
loaded and its chart drawn. A change of view is a key press until the next picture, which waits for the screen, too.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from gsched import Cluster, PageRun, check, generate, load_config, simulate, write_page

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))  # where Chromium is driven

SCRIPT = """
  await frame();
  const usable = view.performance.now(), canvas = all("#gantt")[0], times = [];
  for (let i = 0; i < 24; i++) {
    const begin = view.performance.now();
    canvas.dispatchEvent(new view.KeyboardEvent("keydown", {key: i < 12 ? "+" : "-", bubbles: true}));
    await frame();
    times.push(view.performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  return {usable, median: times[12], longest: times[23]};
"""


def main() -> int:
    """Write pages, open each and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small page: does everything work?")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    options = parser.parse_args()
    sizes = ((50, 8),) if options.quick else ((1_665, 16), (29_700, 64))
    measured = [measure(*size) for size in sizes]
    print(json.dumps(measured, indent=2) if options.json else as_text(measured))
    return 0


def measure(requests: int, gpus: int) -> dict[str, Any]:
    """Return what a page of so many requests on so many GPUs took."""
    from browser import probed

    print(f"{requests:,} requests ...", file=sys.stderr, flush=True)
    config = load_config(ROOT / "examples" / "documents.json")
    workload = generate(config, requests, requests / gpus, seed=1)
    log = simulate(workload, Cluster(gpus), "improved", "online")
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "page.html"
        write_page(page, [PageRun(log, check(log, workload))], workload=workload)
        seen = probed(Path(name), page, 1200, SCRIPT)
        return {"nodes": len(log), "gpus": gpus, "megabytes": page.stat().st_size / 1e6, **seen}


def as_text(measured: list[dict[str, Any]]) -> str:
    """Return a table."""
    lines = [f"{'nodes':>8}{'GPUs':>6}{'MB':>7}{'usable ms':>11}{'view ms':>9}{'longest':>9}"]
    lines += [
        f"{m['nodes']:>8,}{m['gpus']:>6}{m['megabytes']:>7.2f}{m['usable']:>11.0f}{m['median']:>9.1f}{m['longest']:>9.1f}"
        for m in measured
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
