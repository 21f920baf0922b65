"""Pictures: what is drawn against numbers worked out apart, and the files."""

import runpy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from small import tiny
from test_cli import ROOT, run

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.log import Gangs, Log
from gsched.log_files import write_log
from gsched.metrics import gpu_use
from gsched.report.colours import policy_looks
from gsched.report.log_plots import MOST_MODELS, NamedLog, log_pictures
from gsched.report.panels import Picture, draw, file_part, write_pictures
from gsched.report.plots import SWEEP_KINDS, sweep_pictures
from gsched.simulator import simulate
from gsched.sweep.results import Results, write_results

POLICIES = ("improved", "baseline", "own")
SIZES, SEEDS = (4, 8, 40), (1, 2, 3)


def outcome(workload: str, policy: str, gpus: int, load: float, seed: int, **more: Any) -> dict[str, Any]:
    place = POLICIES.index(policy)
    makespan = 1000.0 / gpus * (1 + place) + seed * gpus
    return {
        **{"workload": workload, "policy": policy, "gpus": gpus, "load": load, "seed": seed, "mode": "offline"},
        **{"valid": True, "makespan": makespan, "lower_bound": 900.0 / gpus - place, "gap_percent": 3.0 + seed * place},
        **{"total_model_switches": place * gpus**2 * seed, "average_utilization": 90.0 - gpus},
        **{"median_request_time": 10 * load + seed, "p99_request_time": 100 * load + seed * place},
        "latency_percentiles": (np.arange(101.0) * (1 + place) + seed + gpus).tolist(),
        **more,
    }


def sweep(workloads: tuple[str, ...] = ("w",), loads: tuple[float, ...] = (1.0,)) -> list[dict[str, Any]]:
    return [
        outcome(workload, policy, gpus, load, seed)
        for workload in workloads
        for policy in POLICIES
        for gpus in SIZES
        for load in loads
        for seed in SEEDS
    ]


def of(runs: list[dict[str, Any]], column: str, **where: Any) -> list[Any]:
    return [run[column] for run in runs if all(run[name] == value for name, value in where.items())]


def drawn(picture: Picture, panel: int = 0) -> Axes:
    axes = Figure().subplots()
    picture.panels[panel].draw(axes)
    return axes


def one(runs: list[dict[str, Any]], kind: str, **options: Any) -> Picture:
    (picture,), _ = sweep_pictures(runs, [kind], **options)
    return picture


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """The lines of the policies, by policy: the colour tells whose one is."""
    names = {look.light: policy for policy, look in policy_looks(POLICIES).items()}
    found = {}
    for line in axes.lines:
        if line.get_linestyle() != "None" or len(line.get_xdata()) == 1:
            colour = to_hex(line.get_color())
            if colour in names:
                found[names[colour]] = (list(line.get_xdata()), list(line.get_ydata()))
    return found


def reference(axes: Axes) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.lines if to_hex(line.get_color()) == "#444444"]
    return list(line.get_xdata()), list(line.get_ydata())


# -- what is drawn of a sweep


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("makespan", "makespan"),
        ("gap", "gap_percent"),
        ("switches", "total_model_switches"),
        ("utilization", "average_utilization"),
    ],
)
def test_lines_are_means_over_seeds_by_cluster_size(kind: str, column: str) -> None:
    runs = sweep()
    found = lines(drawn(one(runs, kind)))
    assert set(found) == set(POLICIES)
    for policy, (sizes, means) in found.items():
        assert sizes == list(SIZES)
        assert means == pytest.approx([np.mean(of(runs, column, policy=policy, gpus=gpus)) for gpus in SIZES])


def test_bars_are_students_intervals() -> None:
    runs = sweep()
    axes = drawn(one(runs, "makespan"))
    for policy, container in zip(POLICIES, axes.containers, strict=True):
        (bars,) = container.lines[2]
        for gpus, ((_, low), (_, high)) in zip(SIZES, bars.get_segments(), strict=True):
            values = of(runs, "makespan", policy=policy, gpus=gpus)
            half = 4.303 * np.std(values, ddof=1) / np.sqrt(3)
            assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half))


def test_a_single_seed_has_no_bars_and_a_plain_title() -> None:
    runs = [run for run in sweep() if run["seed"] == 1]
    picture = one(runs, "makespan")
    assert picture.title == "Makespan by cluster size"
    assert all(container.lines[2] == () for container in drawn(picture).containers)
    assert one(sweep(), "makespan").title == "Makespan by cluster size: means of 3 seeds, 95% intervals"


def test_the_lower_bound_is_one_that_holds_for_all_policies() -> None:
    runs = sweep()
    runs[0]["lower_bound"] = None
    picture = one(runs, "makespan")
    assert reference(drawn(picture)) == (list(SIZES), [900.0 / gpus - 2 for gpus in SIZES])
    assert [entry.get_label() for entry in picture.key()] == [*POLICIES, "lower bound"]


def test_speedups_compare_run_by_run() -> None:
    runs = sweep()
    picture = one(runs, "speedup")
    axes = drawn(picture)
    found = lines(axes)
    assert set(found) == {"improved", "own"}
    for policy, (_, ratios) in found.items():
        for gpus, ratio in zip(SIZES, ratios, strict=True):
            pairs = zip(
                of(runs, "makespan", policy="baseline", gpus=gpus),
                of(runs, "makespan", policy=policy, gpus=gpus),
                strict=True,
            )
            assert ratio == pytest.approx(np.mean([a / b for a, b in pairs]))
    assert reference(axes) == ([4, 40], [1.0, 1.0])
    assert [entry.get_label() for entry in picture.key()] == ["improved", "own", "baseline"]
    other = one(runs, "speedup", baseline="own")
    assert set(lines(drawn(other))) == {"improved", "baseline"}
    assert drawn(other).get_ylabel() == "speed-up over own (×)"


def test_zeros_among_decades_are_seen() -> None:
    axes = drawn(one(sweep(), "switches"))
    assert axes.get_yscale() == "symlog"
    assert axes.get_ylabel() == "model switches, log scale"
    assert axes.get_ylim()[0] == 0
    assert lines(axes)["improved"][1] == [0, 0, 0]
    assert axes.yaxis.get_transform().linthresh == 10  # the smallest mean above 0 is 32


def test_axes_begin_at_zero_unless_they_say_otherwise() -> None:
    runs = sweep()
    for kind in ("makespan", "gap", "utilization"):
        axes = drawn(one(runs, kind))
        assert (axes.get_ylim()[0], axes.get_yscale()) == (0, "linear")
        assert "log" not in axes.get_ylabel()
    wide = [run | {"gap_percent": 0.1 if run["gpus"] == 4 else 50.0} for run in runs]
    axes = drawn(one(wide, "gap"))
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "gap (%), log scale"
    assert axes.get_xscale() == "log"  # ten times as many GPUs
    assert list(axes.get_xticks()) == list(SIZES)


def test_next_to_nothing_is_shown_as_such() -> None:
    gaps = {4: 2e-3, 8: 0.5, 40: 80.0}
    axes = drawn(one([run | {"gap_percent": gaps[run["gpus"]]} for run in sweep()], "gap"))
    assert axes.get_yscale() == "symlog"
    assert axes.yaxis.get_transform().linthresh == 0.001  # a ten-thousandth of the largest, or less
    gaps = {4: 1e-7, 8: 0.5, 40: 2.0}  # what a bound's care leaves of a 0 is one
    axes = drawn(one([run | {"gap_percent": gaps[run["gpus"]]} for run in sweep()], "gap"))
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", "gap (%)")


def test_wide_intervals_do_not_squeeze_the_means() -> None:
    runs = [run | {"makespan": 100.0 + 99 * run["seed"]} for run in sweep() if run["seed"] < 3]
    assert drawn(one(runs, "makespan")).get_ylim()[1] == pytest.approx(1.06 * 1.5 * (100 + 99 * 1.5))


def test_distributions_are_means_of_percentiles_at_the_middle_size() -> None:
    picture = one(sweep(), "latency-cdf")
    assert picture.title == "Distribution of request times, 8 GPUs: means of 3 seeds"
    assert [panel.title for panel in picture.panels] == ["w"]
    for policy, (seconds, share) in lines(drawn(picture)).items():
        assert seconds == pytest.approx(np.arange(101.0) * (1 + POLICIES.index(policy)) + 2 + 8)
        assert share == list(range(101))
    assert ", 40 GPUs:" in one(sweep(), "latency-cdf", gpus=40).title
    mixed = [run for run in sweep(("w", "x")) if run["workload"] == "w" or run["gpus"] != 8]
    assert [panel.title for panel in one(mixed, "latency-cdf").panels] == ["w, 8 GPUs", "x, 4 GPUs"]


def test_request_times_are_drawn_by_load() -> None:
    runs = sweep(loads=(0.5, 2.0))
    picture = one(runs, "latency-load", gpus=4)
    assert picture.title == "Request times by load, 4 GPUs: means of 3 seeds, 95% intervals"
    assert [panel.title for panel in picture.panels] == ["w: P50", "w: P99"]
    for panel, column in enumerate(("median_request_time", "p99_request_time")):
        axes = drawn(picture, panel)
        for policy, (loads, seconds) in lines(axes).items():
            assert loads == [0.5, 2.0]
            expected = [np.mean(of(runs, column, policy=policy, gpus=4, load=load)) for load in loads]
            assert seconds == pytest.approx(expected)
        assert axes.get_xlabel() == "load (× the workload's own rate)"


def test_there_is_a_panel_for_each_workload_and_load() -> None:
    for kind in SWEEP_KINDS:
        titles = [panel.title for panel in one(sweep(("a", "b"), (1.0, 2.0)), kind).panels]
        assert len(titles) == 4
    picture = one(sweep(("a", "b"), (1.0, 2.0)), "gap")
    assert [panel.title for panel in picture.panels] == ["a, load 1", "a, load 2", "b, load 1", "b, load 2"]
    assert [panel.title for panel in one(sweep(("a", "b")), "gap").panels] == ["a", "b"]
    assert len(lines(drawn(picture, 3))) == 3


def test_policies_that_coincide_are_drawn_side_by_side() -> None:
    axes = drawn(one([run | {"makespan": 5.0} for run in sweep()], "makespan"))
    places = [container.lines[0].get_transform().transform((8, 5.0)) for container in axes.containers]
    assert [round((b - a)[0] / axes.figure.dpi * 72, 3) for a, b in pairwise(places)] == [1.6, 1.6]


def test_runs_without_a_schedule_are_left_out_and_told() -> None:
    runs = sweep()
    runs[4] |= {"valid": False, "makespan": 1e9}
    runs[-1] |= {"valid": False, "makespan": None}
    pictures, notes = sweep_pictures(runs)
    told = "2 of 27 runs have no valid schedule and are left out (improved: 1, own: 1)"
    assert notes == [told, "latency-load is not drawn: the sweep has only one load"]
    (makespan,) = [picture for picture in pictures if picture.name == "makespan"]
    expected = np.mean([run["makespan"] for run in runs[3:6] if run["valid"]])
    assert lines(drawn(makespan))["improved"][1][1] == pytest.approx(expected)


def test_without_a_baseline_there_are_no_speedups() -> None:
    runs = [run for run in sweep() if run["policy"] != "baseline"]
    pictures, notes = sweep_pictures(runs)
    assert "speedup" not in [picture.name for picture in pictures]
    assert "speedup is not drawn: there is no valid run of baseline" in notes


@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        ({}, {"kinds": ["gaps"]}, "--kind gaps: is no picture of a sweep; use makespan, gap, speedup"),
        ({}, {"kinds": ["latency-load"]}, "--kind latency-load: cannot be drawn: the sweep has only one load"),
        ({}, {"gpus": 5}, "--gpus 5: is no size of this sweep; use one of 4, 8, 40"),
        ({}, {"kinds": ["speedup"], "baseline": "edf"}, "there is no valid run of edf"),
        ({"valid": False}, {}, "results: have no valid run to plot"),
        ({"gap_percent": None}, {"kinds": ["gap"]}, "--kind gap: cannot be drawn: no run has such a figure"),
        ({"latency_percentiles": None}, {"kinds": ["latency-cdf"]}, "no run has latency_percentiles"),
    ],
)
def test_what_cannot_be_drawn_is_said(change: Mapping[str, Any], options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as told:
        sweep_pictures([run | change for run in sweep()], **options)
    assert complaint in str(told.value)


# -- what is drawn of logs


def named(*policies: str) -> list[NamedLog]:
    workload = tiny({"a": 2, "b": 1}, "ab", 5)
    return [NamedLog(policy, simulate(workload, Cluster(2), policy)) for policy in policies]


def test_pictures_of_logs_show_their_data() -> None:
    logs = named("baseline", "improved")
    pictures, notes = log_pictures(logs)
    assert [picture.name for picture in pictures] == ["latency-cdf", "utilization", "queues"]
    assert notes == []
    times, use, queues = pictures
    for name, log in logs:
        seconds, share = lines(drawn(times))[name]
        done = [log.end_time[[text == f"r{i}" for text in log.request_id.texts()]].max() for i in range(5)]
        assert seconds == [min(done), *sorted(done)]
        assert share == [0, 20, 40, 60, 80, 100]
    assert [panel.title for panel in use.panels] == [panel.title for panel in queues.panels] == ["baseline", "improved"]
    executing, loading = drawn(use, 1).containers
    busy = [use.utilization_percent for use in gpu_use(logs[1].log, range(2))]
    assert [
        bar.get_height() + more.get_height() for bar, more in zip(executing, loading, strict=True)
    ] == pytest.approx(busy)
    loads = [(logs[1].log.switch_time[on]).sum() for on in rows_by_gpu(logs[1].log, 2)]
    assert [bar.get_height() for bar in loading] == pytest.approx(100 * np.array(loads) / logs[1].log.end_time.max())
    assert [bar.get_y() for bar in loading] == [bar.get_height() for bar in executing]
    assert [entry.get_label() for entry in queues.key()] == ["a", "b"]
    (first, *_) = drawn(queues).patches
    assert first.get_data().values[0] == 5 - 1  # one starts at once


def rows_by_gpu(log: Log, gpus: int) -> list[list[int]]:
    assert log.gpu_ids is not None
    ends = zip(log.gpu_ids.first[:-1], log.gpu_ids.first[1:], strict=True)
    gangs = [log.gpu_ids.gpus[begin:end].tolist() for begin, end in ends]
    return [[row for row, gang in enumerate(gangs) if gpu in gang] for gpu in range(gpus)]


def test_the_use_of_many_or_odd_gpus_is_drawn_in_one_piece() -> None:
    ((_, log),) = named("baseline")
    count = len(log)
    far = replace(log, gpu_ids=Gangs.consecutive(np.full(count, 2**31 - 1, np.int32), np.ones(count, np.int32)))
    (use,), _ = log_pictures([NamedLog("x", far)], ["utilization"])
    axes = drawn(use)
    assert len(axes.containers[0]) == 3  # the two that the summary tells of, and the one that was used
    assert axes.xaxis.get_major_formatter()(2, None) == "2147483647"
    wide = replace(log, gpu_ids=Gangs.consecutive(np.arange(count, dtype=np.int32) * 9, np.ones(count, np.int32)))
    (use,), _ = log_pictures([NamedLog("x", replace(wide, summary={"gpus": 100}))], ["utilization"])
    executing, loading = (patch.get_data() for patch in drawn(use).patches)
    share = 100 * (log.end_time - log.start_time) / log.end_time.max()
    assert executing.values[np.arange(count) * 9] == pytest.approx(share)
    assert executing.values.sum() == pytest.approx(share.sum())
    assert (loading.values - executing.values).sum() == pytest.approx(100 * log.switch_time.sum() / log.end_time.max())


def test_queues_of_many_models_are_summed() -> None:
    names = "abcdefghijk"
    workload = tiny(dict.fromkeys(names, 1), names, 3)
    log = simulate(workload, Cluster(2))
    (queues,), _ = log_pictures([NamedLog("baseline", log)], ["queues"])
    labels = [entry.get_label() for entry in queues.key()]
    assert len(labels) == MOST_MODELS + 1
    assert labels[-1] == "other models"
    own = {name: log.waiting_time[[text == name for text in log.model_name.texts()]].sum() for name in names}
    assert min(own[name] for name in labels[:-1]) >= max(own[name] for name in own.keys() - set(labels))
    steps = [patch.get_data() for patch in drawn(queues).patches]
    waited = sum(float((one.values * np.diff(one.edges)).sum()) for one in steps)
    assert waited == pytest.approx(float(log.waiting_time.sum()))


def test_requests_that_were_given_up_have_no_time() -> None:
    ((name, log),) = named("baseline")
    failure = {"request_id": "r1", "node_id": "n1", "model_name": "b", "reason": "lost", "attempts": 1}
    failed = replace(log, extra={"failures": [failure]}, summary=log.summary | {"partial": True})
    (times, *_), notes = log_pictures([NamedLog(name, failed)])
    assert lines(drawn(times))[name][1] == [0, 25, 50, 75, 100]
    assert notes == [
        "baseline is of a run that was stopped: the last requests may look shorter than they are",
        "baseline has 1 failed request, whose times are not shown",
    ]
    failures = [failure | {"request_id": f"r{i}"} for i in range(5)]
    (times, *_), notes = log_pictures([NamedLog(name, replace(log, extra={"failures": failures}))])
    assert notes[1] == "baseline has no completed request, whose time could be shown"
    assert not list(drawn(times).lines)


def test_a_log_of_another_tool_is_plotted_as_far_as_it_goes() -> None:
    ((name, log),) = named("baseline")
    bare = replace(log, ready_time=None, switch_time=None, gpu_ids=None, summary={})
    pictures, notes = log_pictures([NamedLog(name, bare)])
    assert [picture.name for picture in pictures] == ["utilization"]
    assert notes == [f"{kind} is not drawn: baseline has no column ready_time" for kind in ("latency-cdf", "queues")]
    with pytest.raises(InputError, match="baseline: column ready_time: is missing, which queues needs"):
        log_pictures([NamedLog(name, bare)], ["queues"])


def test_a_log_without_rows_or_times_is_refused() -> None:
    ((_, log),) = named("baseline")
    none = np.zeros(0)
    labels = replace_codes(log)
    empty = Log(*labels, np.zeros(0, np.int32), none, none)
    with pytest.raises(InputError, match="x: has no rows to plot"):
        log_pictures([NamedLog("x", empty)])
    wrong = replace(log, end_time=np.full(len(log), np.nan))
    with pytest.raises(InputError, match="x: has no rows to plot; see what gsched check finds"):
        log_pictures([NamedLog("x", wrong)])


def test_logs_that_do_not_compare_are_told() -> None:
    ((_, log),) = named("baseline")
    told = "the logs differ in mode, cluster or number of requests, so their request times do not compare"
    for change in ({"mode": "online"}, {"gpus": 3}, {"total_requests": 6}):
        other = replace(log, summary=log.summary | change)
        assert log_pictures([NamedLog("x", log), NamedLog("y", other)])[1] == [told]


def test_rows_that_make_no_sense_are_not_drawn() -> None:
    ((_, log),) = named("baseline")
    log.end_time[-1] = np.inf
    log.gpu_id[0] = -1
    assert log.request_id.texts()[0] != log.request_id.texts()[-1]
    (times, use, _), notes = log_pictures([NamedLog("baseline", replace(log, gpu_ids=None))])
    assert notes == [f"2 of {len(log)} rows of baseline make no sense and are not drawn"]
    assert len(lines(drawn(times))["baseline"][0]) == 1 + 5 - 2  # requests that have such rows have no time
    assert drawn(use).get_ylim() == (0, 100)


def replace_codes(log: Log) -> Iterator[Any]:
    columns = (log.request_id, log.workflow_id, log.node_id, log.model_name)
    return (column._replace(codes=np.zeros(0, np.int32)) for column in columns)


# -- files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("form", MAGIC)
def test_every_kind_is_written_in_every_format(tmp_path: Path, form: str) -> None:
    pictures, _ = sweep_pictures([run for run in sweep(loads=(1.0, 2.0)) if run["seed"] < 3])
    more, _ = log_pictures(named("baseline"))
    paths = write_pictures(pictures, tmp_path, form) + write_pictures(more, tmp_path / "logs", form)
    assert [path.name for path in paths[:7]] == [f"{kind}.{form}" for kind in SWEEP_KINDS]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)
    assert all(path.read_bytes().startswith(MAGIC[form]) for path in paths)


@pytest.mark.parametrize("form", MAGIC)
def test_a_picture_is_the_same_bytes_whatever_the_users_settings(tmp_path: Path, form: str) -> None:
    picture = one(sweep(), "makespan")
    (path,) = write_pictures([picture], tmp_path, form)
    before = path.read_bytes()
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "axes.facecolor": "black", "savefig.dpi": 10}):
        write_pictures([picture], tmp_path, form)
    assert path.read_bytes() == before
    assert not any(word in before for word in (b"CreationDate", b"dc:date", b"matplotlib.org"))


def test_names_of_workloads_lead_nowhere(tmp_path: Path) -> None:
    names = ("../../up", "a/b", "a:b", "A?B", "$\\frac{$", "..", "ä" * 300)  # the formula is a wrong one
    paths = write_pictures([one(sweep(names), "gap")], tmp_path / "in", "svg", separate=True)
    assert [path.stem for path in paths] == [
        *("gap_up", "gap_a-b", "gap_a-b-2", "gap_A-B-3", "gap_frac", "gap_unnamed", "gap_" + "ä" * 40)
    ]
    assert all(path.parent == tmp_path / "in" for path in paths)
    assert sorted(tmp_path.rglob("*.svg")) == sorted(paths)
    assert file_part("simple") == "simple"


def test_the_key_is_read_row_by_row() -> None:
    runs = [run | {"policy": f"p{i}"} for i in range(7) for run in sweep()[:1]]
    figure = Figure(layout="constrained")
    draw(one(runs, "makespan"), figure)
    (legend,) = figure.legends
    figure.draw_without_rendering()
    boxes = [(text.get_window_extent(), text.get_text()) for text in legend.get_texts()]
    by_row = [text for _, text in sorted(boxes, key=lambda one: (-round(one[0].y0), one[0].x0))]
    assert by_row == [*(f"p{i}" for i in range(7)), "lower bound"]


def test_the_command_draws_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(Results(sweep(("a", "b")), {"mode": "offline"}), here / "benchmark_results")
    words = ["--kind", "gap", "--format", "svg"]
    assert run("plot", "benchmark_results", *words) == 0
    assert run("plot", "benchmark_results/results.parquet", *words, "--separate", "--out", "apart") == 0
    said = capsys.readouterr()
    assert said.out == "gap.svg written\napart/gap_a.svg written\napart/gap_b.svg written\n"
    assert said.err == ""
    assert (here / "gap.svg").exists()


def test_the_command_draws_logs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "two"):
        for name, log in named("baseline"):
            write_log(log, here / folder / f"{name}.json")
    paths = ["one/baseline.json", "two/baseline.json"]
    assert run("plot", *paths, "--kind", "utilization", "--format", "svg", "--separate") == 0
    assert capsys.readouterr().out == (
        "utilization_baseline-one-baseline.svg written\nutilization_baseline-two-baseline.svg written\n"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere"], "nowhere: no such file or folder; run gsched bench (scripts/run_benchmark.py) first"),
        (["sweep", "log.json"], "sweep: is a sweep beside other files; plot one sweep, or logs"),
        (["log.json", "log.json"], "a log is named twice"),
        (["log.json", "--gpus", "4"], "--gpus 4: is for the results of a sweep"),
        (["log.json", "--kind", "makespan"], "--kind makespan: is no picture of logs; use latency-cdf, utilization"),
        (["other"], "other: holds no results.parquet; run gsched bench"),
        (["sweep", "--format", "gif"], "Invalid value for '--format'"),
        (["sweep", "--out", "/proc/pictures"], "cannot be written"),
    ],
)
def test_what_cannot_be_plotted_is_one_line(
    here: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(Results(sweep(), {"mode": "offline"}), here / "sweep")
    write_log(named("baseline")[0].log, here / "log.json")
    (here / "other").mkdir()
    before = sorted(here.rglob("*"))
    assert run("plot", *words) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_without_matplotlib_the_extra_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gsched.cli.extras.find_spec", lambda _: None)
    assert run("plot", "sweep") == 2
    told = "error: extra report: is not installed (no module matplotlib); install it with pip install 'gsched[report]'"
    assert capsys.readouterr().err.strip() == told


@pytest.mark.parametrize(
    ("script", "files"),
    [("plot_benchmark_results.py", ["gap.png"]), ("plot_separate_configs.py", ["gap_a.png", "gap_b.png"])],
)
def test_scripts_draw_what_the_benchmark_left(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, files: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", [script, "--kind", "gap"])
    for status in (2, 0):
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")
        assert stop.value.code == status
        write_results(Results(sweep(("a", "b")), {"mode": "offline"}), here / "benchmark_results")
    told = capsys.readouterr().err
    assert told.startswith("error: benchmark_results: no such file or folder; run gsched bench")
    assert told.count("\n") == 1
    assert sorted(path.name for path in here.glob("*.png")) == files
