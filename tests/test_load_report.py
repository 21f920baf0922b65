"""The page about a load test: what it says, that nothing in the data can change it, and that a browser shows it."""

import re

import numpy as np
import pytest
from browser import Page, browse, probed

from gsched.errors import InputError
from gsched.live.loadgen.class_process import ClassPlan
from gsched.live.loadgen.plans import Load
from gsched.live.loadgen.report import write_report
from gsched.live.loadgen.run import ClassRun
from gsched.live.loadgen.sut import Connection
from gsched.live.loadgen.verdict import Verdict
from gsched.live.loadgen.workload_config import REQUEST_CLASSES, SLO_LATENCY_NS, WORKLOAD_DISTRIBUTIONS

START = 1_750_000_000 * 10**9
CONNECTION = Connection("localhost:50051")
LOAD = Load(CONNECTION, qps=55.0, duration=30.0)


def class_run(
    tier, slo, latencies, outcomes=None, *, times=None, lags=None, error="", seconds=30.0, verdict=None, qps=None
):
    """A class whose requests ended so after so many milliseconds; times are in seconds, lags in milliseconds."""
    count = len(latencies)
    outcomes = ["done"] * count if outcomes is None else outcomes
    times = np.linspace(0.0, seconds, count) if times is None else times
    lags = np.full(count, 0.2) if lags is None else lags
    records = []
    for number, (at, lag, latency, outcome) in enumerate(zip(times, lags, latencies, outcomes, strict=True)):
        scheduled = START + int(at * 1e9)
        records.append(
            {
                "number": number,
                "timestamp_issued": scheduled,
                "sample_id": number,
                "tier": tier,
                "slo": slo,
                "model_name": "resnet50",
                "latency_ns": int(latency * 1e6),
                "slo_met": outcome == "done" and latency * 1e6 <= SLO_LATENCY_NS[slo],
                "timestamp_scheduled": scheduled,
                "timestamp_sent": 0 if outcome == "unsent" else scheduled + int(lag * 1e6),
                "outcome": outcome,
                "error": "" if outcome == "done" else error,
            }
        )
    plan = ClassPlan(tier, slo, qps or max(count, 1) / seconds, seconds, CONNECTION, (1, 2, 3, 4))
    sent = np.array([lag for lag, outcome in zip(lags, outcomes, strict=True) if outcome != "unsent"])
    return ClassRun(plan, records, count, verdict, "", sent, seconds)


def overload(qps=55.0, seconds=30.0, seed=1):
    """All nine classes at more than a scheduler can do: from a third of the time on, tier 3 expires."""
    rng = np.random.default_rng(seed)
    runs = []
    for tier, slo in REQUEST_CLASSES:
        rate = WORKLOAD_DISTRIBUTIONS["balanced"][tier, slo] * qps
        count = rng.poisson(rate * seconds)
        times = np.sort(rng.uniform(0.0, seconds, count))
        pressure = np.clip((times - seconds / 3) / (seconds / 3), 0.0, 1.0)
        limit = SLO_LATENCY_NS[slo] / 1e6
        waits = pressure * limit * {1: 0.1, 2: 0.45, 3: 1.6}[tier] * rng.uniform(0.3, 1.2, count)
        latencies = 14 + rng.gamma(2.0, 4.0, count) + waits
        outcomes = np.where(latencies > limit * (1.0 if tier == 3 else 1.1), "expired", "done")
        latencies = np.where(outcomes == "expired", limit, latencies)
        late = int(((outcomes != "done") | (latencies > limit)).sum())
        reasons = (f"p99 {limit:,.0f} ms is above {limit:,.0f} ms ({late} of {count} late)",) if late else ()
        verdict = Verdict(not late, reasons, int(seconds * 1e9))
        lags = 0.15 + rng.lognormal(-1.5, 0.8, count)
        known = {"times": times, "lags": lags, "seconds": seconds, "verdict": verdict, "qps": rate}
        runs.append(class_run(tier, slo, latencies, outcomes, **known))
    return runs


class LoadPage(Page):
    """The page about a load test: its rows by their first cell, and its plots."""

    def row(self, name, table=0):
        """The cells of the row of a class in the first or second table."""
        return [row for row in self.rows if row[0] == name][table][1:]

    def plot(self, title):
        return re.search(f'aria-label="{title}".*?</svg>', self.text, re.DOTALL)[0]

    def curve(self, title, tier):
        """The points of a tier's line in a plot, x as drawn and y from 0 to 1; None where there is no line."""
        paths = re.findall(r'<path d="([^"]*)"([^>]*)>', self.plot(title))
        ys = points(paths[1][0])[:, 1]
        found = [points(data) for data, style in paths if f"var(--tier{tier})" in style]
        return np.column_stack([found[0][:, 0], (ys.max() - found[0][:, 1]) / np.ptp(ys)]) if found else None

    def slo_at(self, title):
        """Where the vertical line is."""
        lines = re.findall(r'<path d="([^"]*)"[^>]*stroke: currentColor; stroke-linecap: square', self.plot(title))
        return points(lines[0])[0, 0]


def points(data):
    return np.array(re.findall(r"[ML] (\S+) (\S+)", data), float)


@pytest.fixture
def written(tmp_path):
    def write(runs, load=LOAD):
        write_report(runs, load, tmp_path / "report.html")
        return LoadPage((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


def test_it_says_what_was_offered_and_what_was_kept(written):
    runs = [
        class_run(1, "urgent", np.arange(1.0, 101.0), qps=4.0),
        class_run(3, "relaxed", [10.0] * 20, ["done"] * 15 + ["expired"] * 3 + ["rejected", "failed"]),
    ]
    page = written(runs)
    assert "120 requests were offered and 95.8% done in time" in page.words
    assert "Sent: 120, at 4.00 requests/s of 4.67 asked for. In time: tier 1 100.0%, tier 2 -, tier 3 75.0%." in (
        page.words.replace("\N{NO-BREAK SPACE}", " ")
    )
    assert (
        "Workload balanced, 30.0 s, seed 0, by MLPerf LoadGen, to localhost:50051, from 2025-06-15 15:06:40 UTC."
        in (page.words)
    )
    assert "Usable as a measurement" in page.words
    assert page.row("tier 1 urgent") == ["100", "100", "50.5", "95.0", "99.0", "100.0%", "0", "0", "0", "0"]
    assert page.row("tier 3 relaxed") == ["20", "15", "10.0", "10.0", "10.0", "75.0%", "3", "1", "1", "0"]
    assert page.row("all")[:2] == ["120", "115"]
    assert page.row("all")[5:] == ["95.8%", "3", "1", "1", "0"]
    assert page.row("tier 1 urgent", 1) == ["100", "4.00", "3.33", "0.20", "0.20"]
    assert "LoadGen" not in page.rows[-3]


def test_a_verdict_of_loadgen_is_told_with_its_reasons(written):
    reasons = ("p99 120 ms is above 100 ms (3 of 50 late)", "fewer queries than the minimum")
    runs = [
        class_run(1, "urgent", [120.0] * 50, verdict=Verdict(False, reasons, 0)),
        class_run(2, "urgent", [20.0] * 50, verdict=Verdict(True, (), 0)),
        class_run(3, "urgent", [20.0] * 50),
    ]
    page = written(runs)
    assert [row[-1] for row in page.rows[-4:]] == ["LoadGen", f"INVALID: {'; '.join(reasons)}", "VALID", "-"]


def test_a_pattern_is_told(written):
    page = written([class_run(1, "urgent", [9.0])], Load(CONNECTION, pattern="burst", peak=3.0))
    assert "by gsched's own driver, pattern burst" in page.words
    assert "pattern burst up to 3 times the base rate, to localhost:50051" in page.words
    assert "1 request was offered" in page.words
    assert "base rate" not in written([class_run(1, "urgent", [9.0])], Load(CONNECTION, pattern="poisson")).words


@pytest.mark.parametrize("in_time", [0, 1, 37, 9_999, 10_000])
def test_a_single_miss_shows(written, in_time):
    page = written([class_run(2, "normal", [9.0] * 10_000, ["done"] * in_time + ["expired"] * (10_000 - in_time))])
    assert page.row("tier 2 normal")[5] == {0: "0.0%", 1: "0.0%", 37: "0.4%", 9_999: "99.9%", 10_000: "100.0%"}[in_time]


def test_a_curve_counts_all_requests_and_meets_the_slo_at_the_share_in_time(written):
    outcomes = ["done"] * 60 + ["expired"] * 20 + ["rejected"] * 10 + ["timeout"] * 10
    run = class_run(2, "normal", np.linspace(20.0, 1000.0, 60).tolist() + [700.0] * 40, outcomes)
    page = written([run])
    curve, slo = page.curve("latency of normal requests", 2), page.slo_at("latency of normal requests")
    assert curve[0, 1] == 0
    assert curve[-1, 1] == pytest.approx(0.6)
    assert curve[curve[:, 0] <= slo][-1, 1] == pytest.approx(run.attainment)
    assert page.row("tier 2 normal")[5] == f"{100 * run.attainment:.1f}%"
    assert page.curve("latency of normal requests", 1) is None
    assert page.curve("send lag of normal requests", 2)[-1, 1] == pytest.approx(1.0)


def test_requests_without_a_record_count_as_not_answered(written):
    run = class_run(1, "normal", [9.0] * 50)
    run.issued = 100
    page = written([run])
    assert "100 requests were offered and 50.0% done in time" in page.words
    assert page.row("tier 1 normal") == ["100", "50", "9.0", "9.0", "9.0", "50.0%", "0", "0", "0", "50"]
    assert page.curve("latency of normal requests", 1)[-1, 1] == pytest.approx(0.5)


def test_a_class_without_records(written):
    page = written([class_run(1, "urgent", []), class_run(2, "normal", [9.0] * 50)])
    assert page.row("tier 1 urgent") == ["0", "0", "-", "-", "-", "-", "0", "0", "0", "0"]
    assert 'aria-label="latency of urgent' not in page.text
    assert "Usable as a measurement" in page.words
    dead = class_run(1, "urgent", [])
    dead.issued, dead.problem, dead.seconds = 7, "its process ended early (exit status -9)", 0.0
    page = written([dead])
    assert page.row("tier 1 urgent") == ["7", "0", "-", "-", "-", "0.0%", "0", "0", "0", "7"]
    assert page.row("tier 1 urgent", 1) == ["100", "0.03", "-", "-", "-"]
    assert set(page.curve("latency of urgent requests", 1)[:, 1]) == {0.0}


def test_no_request_at_all(written):
    page = written([class_run(1, "urgent", [])])
    assert "No request was offered" in page.words
    assert re.search("Not usable as a measurement:\\s*not one request was due", page.words)
    assert page.words.count("There is nothing to show.") == 3


def test_a_class_of_which_all_expired(written):
    page = written([class_run(3, "relaxed", [2000.0] * 80, ["expired"] * 80, error="past its deadline")])
    assert page.row("tier 3 relaxed") == ["80", "0", "-", "-", "-", "0.0%", "80", "0", "0", "0"]
    assert set(page.curve("latency of relaxed requests", 3)[:, 1]) == {0.0}
    assert set(page.curve("share in time over time", 3)[:, 1]) == {0.0}
    assert "Usable as a measurement" in page.words


def test_complaints_are_all_told(written):
    outcomes = ["done"] * 60 + ["timeout"] * 20 + ["unsent"] * 20
    run = class_run(1, "urgent", [20.0] * 100, outcomes, lags=np.full(100, 40.0), error="no answer within 5 s")
    run.problem, run.issued = "it did not end within 95 s", 120
    complaints = list(run.complaints())
    page = written([run, class_run(2, "urgent", [20.0] * 50)])
    assert len(complaints) == 5
    assert all(f"tier1_urgent: {complaint}" in page.words for complaint in complaints)
    assert "tier2_urgent: " not in page.words
    assert "Not usable as a measurement" in page.words
    assert "sent and answered" not in page.words


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp; $headline ${key} \\1 \ud800 #010101"


def test_what_others_say_is_shown_and_never_obeyed(written):
    run = class_run(1, "urgent", [20.0] * 40, ["timeout"] * 40, error=HOSTILE, verdict=Verdict(False, (HOSTILE,), 0))
    run.problem = HOSTILE
    page = written([run], Load(Connection(HOSTILE)))
    assert page.words.count(HOSTILE.replace("\ud800", "?")) == 4  # the problem, the first error, the reason, the URL
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "iframe", "object"})
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_it_fetches_nothing_and_its_references_hold(written):
    page = written(overload())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("href", "xlink:href")
    ]
    links += re.findall(r"url\(([^)]*)\)", page.text)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert not any("src" in attributes for _, attributes in page.elements)
    assert "@import" not in page.text
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def bins(page):
    paths = re.findall(r'<path d="([^"]*)"', page.plot("requests per second over time"))
    return max(len(np.unique(points(path)[:, 0])) for path in paths) - 1


def test_the_timeline_shows_when_tier_3_expired(written):
    page = written(overload())
    shares = {tier: page.curve("share in time over time", tier) for tier in (1, 2, 3)}
    thirds = np.array_split(shares[3][:, 1], 3)
    assert thirds[0].min() == 1.0
    assert thirds[2].max() < 0.6
    assert shares[1][:, 1].min() == 1.0
    assert len(np.unique(shares[3][:, 0])) >= 20
    assert bins(page) in range(60, 121)


def test_the_same_runs_give_the_same_bytes_whatever_the_user_likes(written):
    import matplotlib as mpl

    first = written(overload()).text
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.bbox": "tight", "svg.fonttype": "path"}):
        assert written(overload()).text == first
    assert "Matplotlib" not in first
    assert "pyplot" not in first


def test_a_page_about_many_requests_stays_small(written):
    runs = overload(qps=6700.0)
    assert sum(len(run.records) for run in runs) > 200_000
    page = written(runs)
    assert len(page.text.encode()) < 1_500_000
    assert bins(page) in range(60, 121)


def test_it_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(overload(), LOAD, tmp_path / "file" / "report.html")
    broken = class_run(1, "urgent", [20.0])
    del broken.records[0]["outcome"]
    with pytest.raises(KeyError):
        write_report([broken], LOAD, tmp_path / "file")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


SEEN = """
  const scale = ({a, b}) => Math.hypot(a, b);
  const size = text => parseFloat(style(text).fontSize) * scale(text.getScreenCTM());
  const svgs = all("figure svg"), letters = all("figure svg text");
  return {
    scroll: page.documentElement.scrollWidth,
    tables: all(".scroll").map(element => [element.scrollWidth, box(element).right]),
    plots: svgs.map(svg => [box(svg).width, box(svg).right]),
    letters: Math.min(...letters.map(size)),
    ink: [style(page.body).color, ...letters.map(text => style(text).fill)],
    line: style(all("figure path[style*=tier1]")[0]).stroke,
  };
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    bad = class_run(1, "urgent", [20.0] * 40, ["timeout"] * 40, error="no answer " + "x" * 400)
    bad.verdict = Verdict(False, ("too few queries to be sure of p99: 40 with 0 late, at least 662 are needed",), 0)
    write_report([bad, *overload()[1:]], LOAD, folder / "report.html")
    return folder


def test_a_browser_shows_the_page(folder):
    dom, console = browse(folder, folder / "report.html", "--window-size=1200,1600")
    assert console == []
    page = Page(dom)
    assert [tag for tag, _ in page.elements].count("table") == 2
    assert len(page.rows) == 1 + 9 + 1 + 1 + 9
    assert [tag for tag, _ in page.elements].count("figure") == 3 + 2 + 3
    assert (folder / "report.png").stat().st_size > 50_000


def test_a_script_in_the_page_would_not_run(folder):
    copy = folder / "scripted.html"
    copy.write_text(
        (folder / "report.html").read_text().replace("</body>", "<script>document.title = 1</script></body>")
    )
    dom, console = browse(folder, copy)
    assert "<title>Load test: " in dom
    assert len(console) == 1


@pytest.mark.parametrize(("width", "columns"), [(1200, 3), (390, 1)])
def test_it_fits_a_desk_and_a_phone(folder, width, columns):
    seen = probed(folder, folder / "report.html", width, SEEN)
    assert seen["scroll"] == width
    assert all(right <= width for _, right in (*seen["tables"], *seen["plots"]))
    assert (seen["tables"][0][0] > width) == (width == 390)  # scrolls within itself
    assert seen["plots"][0][0] == pytest.approx(width / columns, rel=0.12)
    assert seen["letters"] > 9


@pytest.mark.parametrize(
    ("scheme", "ground", "ink", "line"), [(1, 255, 27, "0, 114, 178"), (0, 20, 228, "86, 180, 233")]
)
def test_it_follows_light_and_dark(folder, scheme, ground, ink, line):
    from matplotlib.image import imread

    seen = probed(folder, folder / "report.html", 1200, SEEN, f"--blink-settings=preferredColorScheme={scheme}")
    assert len(set(seen["ink"])) == 1
    assert seen["ink"][0].startswith(f"rgb({ink}, ")
    assert seen["line"] == f"rgb({line})"
    assert round(255 * float(imread(folder / "probe.png")[0, 0, 0])) == ground
