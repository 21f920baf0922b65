"""The page about schedules: what it says, that nothing in a log can change it, and that a browser shows it."""

import json
import re
from dataclasses import replace

import broken_logs
import numpy as np
import pytest
from broken import write
from browser import Page, browse, chromium, console, probed
from measured import CLUSTER, varied
from test_report_figures import foreign

from gsched.checker import check
from gsched.cli import main
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.log import Labels
from gsched.log_files import read_log, write_log
from gsched.report.page import PageRun, write_page
from gsched.simulator import simulate
from gsched.sweep.results import Results, write_results

ODD = "</script><script>document.title = 1</script><!-- \" ' & \ud800 $title"


def urgent(requests=120):
    """Requests of three tiers, two of them with deadlines."""
    workload = varied(requests)
    tier = (np.arange(requests) % 3 + 1).astype(np.int32)
    return replace(workload, tier=tier, deadline=np.where(tier < 3, 40.0 * tier, np.inf))


def ran(workload, *policies, mode="offline", cluster=CLUSTER):
    logs = [simulate(workload, cluster, policy, mode) for policy in policies]
    return [PageRun(log, check(log, workload), f"{policy}.json") for log, policy in zip(logs, policies, strict=True)]


@pytest.fixture
def written(tmp_path):
    def write(runs, results=None, workload=None):
        write_page(tmp_path / "page.html", runs, results, workload=workload)
        return Page((tmp_path / "page.html").read_text(encoding="utf-8"))

    return write


def said(page):
    return " ".join(page.words.split())


def test_it_says_who_is_best_and_how_good_that_is(written):
    workload = varied(60)
    runs = ran(workload, "baseline", "improved")
    page = written(runs, workload=workload)
    makespans = {run.log.summary["policy"]: run.log.summary["makespan"] for run in runs}
    best, gap, bound = (runs[1].log.summary[name] for name in ("policy", "gap_percent", "lower_bound"))
    assert makespans["improved"] < makespans["baseline"]
    more = 100 * (makespans["baseline"] / makespans["improved"] - 1)
    assert f"{best} is done first, after {makespans[best]:,.0f} s, at most {gap:.1f}% above" in said(page)
    assert f"No schedule can be done before {bound:,.0f} s ({runs[1].log.summary['lower_bound_name']})." in said(page)
    assert f"baseline's makespan is {makespans['baseline']:,.0f} s, {more:.1f}% more." in said(page)
    assert f"60 requests, {workload.node_count} nodes, 3 models on 4 GPUs, exclusive residency; offline" in said(page)
    assert "Both schedules are valid: a checker that shares no code" in said(page)
    table = {row[0]: row[1:] for row in page.rows if row}
    assert table["policy"][:3] == ["makespan", "gap", "mean"]
    assert table["improved"][:2] == [f"{makespans['improved']:,.1f}", f"{gap:.1f}%"]
    assert table["improved"][-1] == "yes"
    assert f"<b>{makespans['improved']:,.1f}</b>" in page.text
    assert f"<b>{makespans['baseline']:,.1f}</b>" not in page.text


def test_online_it_goes_by_deadlines_and_the_p99(written):
    runs = ran(urgent(), "baseline", "edf", mode="online")
    page = written(runs)
    best = max(runs, key=lambda run: run.log.summary["slo_attainment_percent"]).log.summary
    claim = f"{best['policy']} meets the most deadlines, {best['slo_attainment_percent']:.1f}%"
    assert f"{claim}; 99% of the requests are done within {best['p99_request_time']:,.0f} s" in said(page)
    tiers = [row for row in page.rows if row and row[0] == "tier 2"]
    figures = runs[0].log.summary["tiers"]["2"]
    assert tiers[0][1:4] == ["40", "40", f"{figures['slo_attainment_percent']:,.1f}%"]
    assert [row[3] for row in page.rows if row and row[0] == "tier 3"] == ["-", "-"]
    plain = written(ran(varied(60), "baseline", mode="online"))
    assert "baseline: 99% of the requests are done within" in said(plain)


def test_tiers_are_compared_where_several_logs_have_them(written):
    runs = ran(urgent(), "baseline", "tiered", mode="online")
    page = written(runs)
    heads = [["policy", "tier 1 SLO", "tier 1 p99", "tier 2 SLO", "tier 2 p99", "tier 3 p99"]]
    assert [row for row in page.rows if row[1:2] == ["tier 1 SLO"]] == heads
    figures = {run.log.summary["policy"]: run.log.summary["tiers"] for run in runs}
    shares = {policy: tiers["1"]["slo_attainment_percent"] for policy, tiers in figures.items()}
    assert shares["tiered"] > shares["baseline"]
    rows = {row[0]: row for row in page.rows[page.rows.index(heads[0]) :][1:3]}
    assert {policy: row[1] for policy, row in rows.items()} == {p: f"{share:,.1f}%" for p, share in shares.items()}
    assert f"<td><b>{shares['tiered']:,.1f}%</b></td>" in page.text
    assert f"<b>{shares['baseline']:,.1f}%</b>" not in page.text
    assert "tier 1 SLO" not in said(written(runs[:1]))
    assert "tier 1 SLO" not in said(written(ran(varied(20), "baseline", "improved")))
    odd = {"10": {"p99_request_time": 4.0}, "2": {"p99_request_time": "<"}, "<b>": 5, "9": {"p99_request_time": 3.0}}
    strange = [replace(run, log=replace(run.log, summary={**run.log.summary, "tiers": odd})) for run in runs]
    assert ["policy", "tier 9 p99", "tier 10 p99"] in written(strange).rows


def test_logs_that_cannot_be_compared_are_kept_apart(written):
    workload = varied(30)
    page = written([*ran(workload, "baseline", "improved"), *ran(workload, "baseline", mode="online")])
    assert "Offline: improved is done first" in said(page)
    assert "Online: baseline: 99% of the requests" in said(page)
    assert [attributes.get("id") for tag, attributes in page.elements if tag == "button"][:3] == [
        "tab0",
        "tab1",
        "tab2",
    ]
    assert page.text.count('<path class="layer"') > 0


def stopped(run, completed):
    """A run whose log says that it was stopped, and has the best figures of all."""
    told = {"partial": True, "simulate": True, "completed_requests": completed, "makespan": 1.0}
    summary = {**run.log.summary, **told, "lower_bound": None, "gap_percent": None}
    return replace(run, log=replace(run.log, summary=summary))


def test_a_run_that_was_stopped_is_not_called_the_best(written):
    workload = varied(60)
    full = ran(workload, "baseline", "improved")
    part = stopped(full[0], 10)
    page = written([part, *full])
    assert "improved is done first" in said(page)
    assert "baseline (no. 1) is not ranked: 10 of 60 requests completed." in said(page)
    assert f"60 requests, {workload.node_count} nodes" in said(page)
    assert "In baseline (no. 1) models really ran, and times are measured." in said(page)
    row = next(row for row in page.rows if row and row[0].startswith("baseline (no. 1)"))
    assert row[0] == "baseline (no. 1)10 of 60 requests completed"
    assert f"<b>{row[1]}</b>" not in page.text
    alone = said(written([part]))
    assert "baseline: 10 of 60 requests completed" in alone
    assert "all is done" not in alone
    assert "no valid run has done all of its work" in said(written([part, stopped(full[1], 10)]))


def test_schedules_that_are_equally_good_share_the_headline(written):
    workload = varied(30)
    baseline, improved = ran(workload, "baseline", "improved", mode="online")
    assert "baseline (a) and baseline (b) have the lowest P99: " in said(
        written([replace(baseline, source="a"), replace(baseline, source="b")])
    )

    def meets(run, percent):
        return replace(run, log=replace(run.log, summary={**run.log.summary, "slo_attainment_percent": percent}))

    ranked = sorted((baseline, improved), key=lambda run: run.log.summary["p99_request_time"])
    best, other = (run.log.summary["policy"] for run in ranked)
    page = written([meets(baseline, 90.0), meets(improved, 90.0)])
    assert f"{best} has the lowest P99 of those that meet the most deadlines, 90.0%: 99% of" in said(page)
    page = written([meets(ranked[0], 80.0), meets(ranked[1], 90.0)])
    assert f"{other} meets the most deadlines, 90.0%" in said(page)
    assert f"{best} meets 80.0% of the deadlines. {best}'s P99 is" in said(page)
    assert "% less." in said(page)


def test_clusters_are_told_apart_where_they_differ(written):
    workload = varied(30)
    runs = [*ran(workload, "baseline"), *ran(workload, "improved", cluster=Cluster(8))]
    page = said(written([*runs, *ran(workload, "online", mode="online")]))
    for name in ("Offline, 4 GPUs: baseline", "Offline, 8 GPUs: improved", "Online: online"):
        assert f"{name}: " in page


def test_logs_of_other_work_are_not_ranked_against_each_other(written):
    runs = [*ran(varied(30), "baseline"), *ran(varied(30, seed=2), "improved")]
    page = written(runs)
    assert "Offline, 4 GPUs, no. 1: baseline: all is done after" in said(page)
    assert "Offline, 4 GPUs, no. 2: improved: all is done after" in said(page)
    longer = replace(varied(30), duration=varied(30).duration * 2)
    assert "is done first" not in said(written([*ran(varied(30), "baseline"), *ran(longer, "improved")]))

    def measured(run):  # times of one work then differ, but not which models are executed how often
        return replace(run, log=replace(run.log, summary={**run.log.summary, "simulate": True}))

    assert "is done first" in said(written([*ran(varied(30), "baseline"), *map(measured, ran(longer, "improved"))]))
    assert "is done first" not in said(written(list(map(measured, runs))))


def test_what_the_checker_found_is_told(written):
    workload = varied(20)
    log = simulate(workload, CLUSTER, "baseline")
    early = replace(log, start_time=log.start_time - 1.0)
    page = written([PageRun(early, check(early, workload))], workload=workload)
    assert "baseline: the schedule is not valid" in said(page)
    assert "The schedule is NOT valid:" in said(page)
    assert "execution_time: execution_time is not end_time - start_time" in said(page)
    assert [row[-1] for row in page.rows if row and row[0] == "baseline"] == ["NO"]
    alone = written([PageRun(log, check(log))])
    assert "The schedule is valid, as far as could be checked:" in said(alone)
    assert "Not checked, as" in said(alone)


def test_a_foreign_log_gets_its_figures_from_the_rows_and_its_bound_from_the_workload(written):
    workload = varied(40)
    ours = simulate(workload, CLUSTER, "improved")
    bare = replace(ours, summary={"mode": "offline", "gpus": 4}, estimated_time=None, waiting_time=None)
    page = written([PageRun(bare, check(bare, workload), "theirs.json")], workload=workload)
    summary = ours.summary
    assert f"theirs.json: all is done after {summary['makespan']:,.0f} s, at most" in said(page)
    row = next(row for row in page.rows if row and row[0] == "theirs.json")
    figures = [summary[name] for name in ("average_request_time", "median_request_time", "p99_request_time")]
    assert row[1:6] == [
        f"{summary['makespan']:,.1f}",
        f"{summary['gap_percent']:.1f}%",
        *(f"{x:,.1f}" for x in figures),
    ]
    assert row[6:9] == ["-", f"{summary['switch_overhead_percent']:.0f}%", f"{summary['average_utilization']:.0f}%"]
    needed = foreign([("r", "n", [0], 0.0, 2.0), ("r", "m", [1], 2.0, 3.0)])
    page = written([PageRun(needed, check(needed), "x.json")])
    assert "The log has no ready_time, which queue lengths and waiting times need." in said(page)
    assert "The logs do not tell how long requests took." in said(page)


def test_a_few_slow_requests_do_not_hide_the_others(written):
    def page(longest):
        rows = [(f"r{i}", "n", [i], 0.0, 1.0 + i / 100) for i in range(99)] + [("slow", "n", [99], 0.0, longest)]
        log = foreign(rows, summary={"mode": "offline"})
        return written([PageRun(log, check(log))]).text

    assert "seconds from arrival to completion, log scale" not in page(10.0)
    text = page(1000.0)
    assert "seconds from arrival to completion, log scale" in text
    low, high, log = map(float, re.search(r'aria-label="Latency" data-x="([^"]*)"', text)[1].split())
    assert low == log == pytest.approx(1.01 / 1.2, rel=0.01)
    assert high == 1050


def test_an_empty_log_makes_a_page_too(written):
    empty = foreign([])
    page = written([PageRun(empty, check(empty), "empty.json")])
    assert "empty.json" in said(page)
    assert "There is nothing to draw." in said(page)
    assert "Nothing to report" in said(written([]))


@pytest.mark.parametrize("case", broken_logs.INVALID_LOGS.values(), ids=broken_logs.INVALID_LOGS)
def test_a_log_that_makes_no_sense_makes_a_page_too(case, written, tmp_path):
    write(tmp_path, {"log": case[0]})
    log = read_log(tmp_path / "log")
    page = written([PageRun(log, check(log), "log")])
    assert "The schedule is NOT valid" in said(page)
    for data in re.findall(r'<script type="application/json" id="log\d">(.*?)</script>', page.text):
        json.loads(data, parse_constant=pytest.fail)


def placed(requests=30):
    """A run of a static deployment with its workload."""
    workload = varied(requests)
    return ran(workload, "static", cluster=Cluster(4, 2, 40.0)), workload


def test_a_deployment_is_drawn_with_the_memory_it_takes(written):
    runs, workload = placed()
    page = written(runs, workload=workload)
    titles = [attributes["title"] for tag, attributes in page.elements if tag == "div" and "title" in attributes]
    instances = runs[0].log.extra["placement"]
    assert len(titles) == sum(len(instance["gpu_ids"]) for instance in instances)
    assert {"a, 40% of the memory", "b, 50% of the memory", "c, 20% of the memory"} == set(titles)
    assert "Server 1" in said(page)
    assert "with its models in place before time 0" in said(page)
    assert "How much memory they take is not known." in said(written(runs))


def test_what_went_wrong_in_a_run_is_listed(written):
    log = simulate(varied(10), CLUSTER, "baseline")
    failure = {"request_id": "<r>", "node_id": "n0", "model_name": "a", "reason": "out of <memory>", "attempts": 3}
    stop = {"gpu_ids": [2, 3], "start_time": 13.5, "end_time": None, "reason": "lost"}
    more = {"gpu_ids": [9, 0, 1, 2, 5, 6, 7, 8], "start_time": 14, "end_time": 15, "reason": "lost"}
    page = written([PageRun(replace(log, extra={"failures": [failure], "interruptions": [stop, more]}), check(log))])
    assert ["0 to 2, 5 to 9", "14.0", "15.0", "-", "lost"] in page.rows
    assert ["<r>", "n0", "a", "3", "out of <memory>"] in page.rows
    assert ["2, 3", "13.5", "-", "-", "lost"] in page.rows
    assert '"stops":[{"rows":[2,3],"begin":13.5' in page.text


def hostile():
    """A log whose every text would like to be something else."""
    log = simulate(varied(12), CLUSTER, "baseline")
    odd = {name: getattr(log, name) for name in ("request_id", "node_id", "model_name")}
    odd = {name: Labels(column.codes, [f"{ODD}{text}" for text in column.values]) for name, column in odd.items()}
    instance = {"model": f"{ODD}a", "gpu_ids": [0]}
    stop = {"gpu_ids": [0], "start_time": 1.0, "end_time": 2.0, "reason": ODD}
    extra = {"placement": [instance], "interruptions": [stop]}
    return replace(log, **odd, summary={**log.summary, "policy": ODD, "lower_bound_name": ODD}, extra=extra)


def test_what_a_log_says_is_shown_and_never_obeyed(written):
    log = hostile()
    page = written([PageRun(log, check(log), ODD)])
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert page.words.count(ODD.replace("\ud800", "?")) > 5
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert re.fullmatch(
        r"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-[^']{44}'", policy
    )
    assert not re.search(r"Math\.(min|max)\(\.\.\.", page.text)  # a request of 150,000 nodes has too many arguments
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page.text)


def sweep():
    """Runs of two policies on two sizes of cluster at two loads, with two seeds."""
    common = {"workload": "w<", "mode": "online", "residency": "exclusive", "gpus_per_server": None, "valid": True}
    common |= {"policy_options": "{}", "problem": "", "violations": "", "deployment_time_seconds": None}
    runs = []
    for gpus in (4, 8):
        for load in (1.0, 2.0):
            for seed in (1, 2):
                for policy, factor in (("baseline", 2.0), ("online", 1.0)):
                    makespan = factor * load * 800 / gpus + seed
                    figures = {"makespan": makespan, "gap_percent": 10.0 * factor, "p99_request_time": makespan / 2}
                    axes = {"policy": policy, "gpus": gpus, "load": load, "seed": seed}
                    runs.append(
                        {**common, **axes, **figures, "total_model_switches": 5, "slo_attainment_percent": 90.0}
                    )
    runs.append({**runs[0], "valid": False, "problem": "it waits", "seed": 3})
    return Results(runs, {})


def test_a_sweep_has_curves_and_a_table(written):
    page = written([], sweep())
    assert "online is best in 4 of 4 settings of the sweep" in said(page)
    assert "A sweep of 17 runs: 1 workload, 2 policies, 2 loads, 3 seeds; 4 to 8 GPUs." in said(page)
    assert "baseline: it waits (1 run)" in said(page)
    assert "Over GPUs, at load 1" in said(page)
    assert "Over load, on 8 GPUs" in said(page)
    charts = re.findall(r'aria-label="([^"]*)"', page.text)
    titles = [
        "P99 of the request times, s",
        "SLO attainment",
        "Gap of the makespan to the proven bound",
        "Model switches",
    ]
    assert [charts.count(title) for title in titles] == [8, 8, 8, 8]  # each with its table
    assert [row for row in page.rows if row[0] == "4"][:3] == [
        ["4", "200.8±3.2", "100.8±3.2"],
        ["4", "90.0%±0.0", "90.0%±0.0"],
        ["4", "20.0%±0.0", "10.0%±0.0"],
    ]
    assert "<td>200.8 <small>±3.2</small></td><td><b>100.8</b> <small>±3.2</small></td>" in page.text
    assert page.text.count("<b>90.0%</b>") == 2 * 8  # equally good
    assert "online, 4: 100.8 (97.6 to 103.9)" in page.text
    assert page.text.count('class="bars"') == 8 * 4


def offline_sweep(**change):
    runs = [{**run, "mode": "offline", **change} for run in sweep().runs if run["load"] == 1 and run["valid"]]
    return [run | {"gap_percent": run["gap_percent"] * (100 if run["policy"] == "baseline" else 0)} for run in runs]


def test_a_sweep_of_batches_is_about_makespans(written):
    page = written([], Results(offline_sweep(), {}))
    assert "Best: the smallest mean over the seeds of the makespan." in said(page)
    assert [row[1:] for row in page.rows if row[0] == "GPUs"] == 2 * [["baseline", "online"]] + [["online"]] + 2 * [
        ["baseline", "online"]
    ]
    assert [row for row in page.rows if row[0] == "8"][2] == ["8", "1.99×±0.06"]
    assert "%, at most, log scale" not in page.text  # zeros and a single value differ by no factor
    runs = [run | {"gap_percent": 2000.0 / (run["gpus"] * 9 if run["seed"] == 1 else 1)} for run in offline_sweep()]
    assert "%, at most, log scale" not in written([], Results(runs, {})).text
    runs = [
        run | {"gap_percent": 2000.0 if run["policy"] == "baseline" else run["gpus"] - 4} for run in offline_sweep()
    ]
    page = written([], Results(runs, {}))
    assert "%, at most, log scale" in page.text
    zero = re.search(r'<circle cx="[^"]*" cy="([^"]*)"[^>]*><title>online, 4: 0.0%', page.text)[1]
    assert zero == "200"  # on the axis


def test_a_policy_with_fewer_runs_is_not_called_the_best(written):
    runs = [run for run in offline_sweep() if run["policy"] == "baseline" or run["seed"] == 1]
    page = written([], Results(runs, {}))
    assert "baseline is best in 2 of 2 settings" in said(page)
    assert ["4", "401.5±6.4", "201.0(1 run)"] in page.rows
    equal = [run | {"makespan": 5.0} for run in offline_sweep()]
    page = written([], Results(equal, {}))
    assert "baseline and online are each best in 2 of 2 settings of the sweep" in said(page)
    assert "Those that are equally good count alike." in said(page)
    alone = [run for run in offline_sweep() if run["policy"] == "online"]
    page = written([], Results(alone, {}))
    assert "A sweep of online" in said(page)
    assert "best" not in page.rows[0]
    assert "<b>" not in page.text
    assert "No run of the sweep has a valid schedule" in said(written([], Results(offline_sweep(valid=False), {})))


def test_it_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", ran(varied(5), "baseline"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def status(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in ("report", *words)])
    return ended.value.code


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    workload = varied(10)
    log = simulate(workload, CLUSTER, "baseline")
    write_log(log, "a.json")
    write_log(replace(log, start_time=log.start_time - 1), "b.parquet")
    write_results(sweep(), tmp_path / "results")
    assert status("a.json") == 0
    assert capsys.readouterr().out == "report.html written; 1 schedule checked: valid\n"
    assert status("a.json", "b.parquet", "--output", "both.html") == 1
    assert capsys.readouterr().out == "both.html written; 1 of 2 schedules is NOT valid\n"
    assert "1 of 2 schedules are NOT valid" in said(Page((tmp_path / "both.html").read_text()))
    assert status("--results", "results", "--output", "sweep.html", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert "<h2>Sweep</h2>" in (tmp_path / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "options: there is nothing to report; name logs, or --results of a sweep"),
        (("a.json", "--config", "c.json"), "options: --config and --requests belong together; give both or neither"),
        (("a.json",), "a.json: no such file; check the path"),
        (("a.json", "--output", "./a.json"), "a.json: is what the page is about; write to another file"),
        (
            ("--results", "none"),
            "none: no such file or folder; run gsched bench (scripts/run_benchmark.py) first, or name what it wrote",
        ),
    ],
)
def test_bad_input_is_one_line(words, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status(*words) == 2
    assert capsys.readouterr().err == f"error: {complaint}\n"
    assert list(tmp_path.iterdir()) == []


DRIVE = """
  const canvas = all("#gantt")[0], viewport = all("#viewport")[0], seen = {};
  const shown = () => [viewport.dataset.from, viewport.dataset.to].map(Number);
  const point = async (type, x, y, more = {}) => {
    const {left, top} = box(canvas);
    const given = {clientX: left + x, clientY: top + y, pointerId: 1, pointerType: "mouse", bubbles: true};
    const kind = type === "wheel" ? view.WheelEvent : view.PointerEvent;
    viewport.dispatchEvent(new kind(type, {...given, cancelable: true, ...more}));
    await frame();
  };
  const press = async key => {
    viewport.dispatchEvent(new view.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
    await frame();
  };
  const text = id => page.getElementById(id).textContent;
  seen.all = shown();
  await point("wheel", 500, 100, {deltaY: -300, ctrlKey: true});
  seen.wheel = shown();
  await point("wheel", 500, 100, {deltaY: -300});
  seen.unfocused = shown();
  await point("pointerdown", 500, 60);
  await point("pointermove", 400, 60);
  await point("pointerup", 400, 60);
  seen.dragged = shown();
  seen.afterDrag = text("picked");
  await press("0");
  seen.reset = shown();
  await press("+");
  await press("ArrowRight");
  seen.keys = shown();
  await press("0");
  await point("pointermove", 48, 30);
  seen.tip = text("tip");
  await point("pointerdown", 48, 30);
  await point("pointerup", 48, 30);
  seen.picked = text("picked");
  await point("pointerdown", 48, 30);
  await point("pointerup", 48, 30);
  seen.unpicked = text("picked");
  all("#schedules .key button")[0].click();
  await frame();
  seen.legend = [text("picked"), all("#schedules .key button")[0].getAttribute("aria-pressed")];
  await press("Escape");
  seen.escaped = text("picked");
  all("#find input")[0].value = "r7";
  all("#find")[0].requestSubmit();
  await frame();
  seen.found = [text("picked"), shown()];
  all(".tabs button")[1].click();
  await frame();
  const ids = query => all(query).map(part => part.id);
  seen.tab = [ids(".panel.current"), shown(), ids("[role=tab][tabindex='0']")];
  const chart = all("figure.chart > svg")[0], {left, top, width} = box(chart);
  const where = {clientX: left + width - 12, clientY: top + 50, bubbles: true};
  chart.dispatchEvent(new view.PointerEvent("pointermove", where));
  seen.read = text("tip");
  const made = chart.cloneNode(true), heights = [200, 175.725, 151.45, 102.9, 8];
  chart.after(made);
  made.dataset.y = "0 90 0.1";
  seen.linear = [];
  for (const high of heights) {
    made.querySelector("[data-name]").setAttribute("d", `M60 ${high}H370`);
    const again = made.cloneNode(true);
    made.after(again);
    view.readable(again, page.getElementById("tip"));
    again.dispatchEvent(new view.PointerEvent("pointermove", {clientX: left + width / 2, clientY: top + 50}));
    seen.linear.push(text("tip").split("\\n").find(line => line.startsWith("baseline: ")));
    again.remove();
  }
  made.remove();
  const swept = all("#sweep details[open] figure.chart > svg")[0], edge = box(swept);
  const right = {clientX: edge.left + 0.6 * edge.width, clientY: edge.top + 9};
  swept.dispatchEvent(new view.PointerEvent("pointermove", right));
  seen.points = text("tip");
  seen.scroll = page.documentElement.scrollWidth;
  seen.heights = [canvas.height, viewport.clientHeight];
  return seen;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages on disk: two runs of a deployment and of a policy; many GPUs; and one with hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    workload = urgent(120)
    cluster = Cluster(4, 2, 40.0)
    runs = ran(workload, "baseline", "static", mode="online", cluster=cluster)
    write_page(folder / "page.html", runs, sweep(), workload=workload)
    log = hostile()
    write_page(folder / "hostile.html", [PageRun(log, check(log), ODD)])
    wide = [("r", "n", [*range(256)], 0.0, 50.0), ("s", "n", [*range(128)], 50.0, 100.0)]
    stop = {"gpu_ids": [140], "start_time": 75.0, "end_time": 75.0, "reason": "resumed at once"}
    many = replace(foreign(wide, summary={"gpus": 256, "gpus_per_server": 8}), extra={"interruptions": [stop]})
    write_page(folder / "many.html", [PageRun(many, check(many))])
    return folder


@pytest.fixture(scope="module")
def driven(folder):
    flags = ("--blink-settings=preferredColorScheme=1",)
    return probed(folder, folder / "page.html", 1280, DRIVE, *flags, height=3000)


def test_a_wheel_a_drag_and_keys_move_the_chart(driven):
    assert isinstance(driven, dict), driven
    start, end = driven["all"]
    span = end - start
    assert start == 0
    a, b = driven["wheel"]
    assert b - a == pytest.approx(span * np.exp(-1), rel=1e-3)
    assert driven["unfocused"] == driven["wheel"]
    c, d = driven["dragged"]
    assert d - c == pytest.approx(b - a)
    width = 78 * 16 - 2 * 16 - 2 - 46
    assert c - a == pytest.approx(100 / width * (b - a), rel=1e-3)
    assert driven["reset"] == driven["all"]
    e, f = driven["keys"]
    assert f - e == pytest.approx(span / 1.5, rel=1e-6)
    assert e == pytest.approx((span - span / 1.5) / 2 + (f - e) / 8, rel=1e-6)


def test_a_click_picks_a_request_and_the_key_a_model(driven):
    log = simulate(urgent(120), Cluster(4, 2, 40.0), "baseline", "online")
    assert driven["tip"].startswith("n0 of r0\n")
    assert "loading" in driven["tip"]
    assert driven["picked"].startswith("Request r0: n0 on GPU")
    assert driven["afterDrag"] == driven["unpicked"] == driven["escaped"] == ""
    assert driven["legend"] == ["All nodes of a", "true"]
    text, (start, end) = driven["found"]
    assert text.startswith("Request r7: ")
    rows = [i for i, name in enumerate(log.request_id.texts()) if name == "r7"]
    first, last = float((log.start_time - log.switch_time)[rows].min()), float(log.end_time[rows].max())
    assert start < first < last < end
    assert end - start < 0.5 * log.summary["makespan"]


def test_tabs_change_the_log_and_charts_can_be_read(driven):
    panels, (start, end), focusable = driven["tab"]
    assert (panels, start, focusable) == (["panel1"], 0, ["tab1"])
    assert end == pytest.approx(simulate(urgent(120), Cluster(4, 2, 40.0), "static", "online").summary["makespan"])
    at, *values = driven["read"].split("\n")
    assert at.startswith("at ")
    assert sorted(values) == ["baseline: 100", "static: 100"]
    assert driven["linear"] == ["baseline: 0", "baseline: 0.05", "baseline: 0.1", "baseline: 1", "baseline: 90"]
    assert driven["points"].split("\n") == ["baseline, 8: 100.8 (97.6 to 103.9)", "online, 8: 50.8 (47.6 to 53.9)"]
    assert driven["scroll"] == 1280


LOOK = """
  const canvas = all("#gantt")[0], viewport = all("#viewport")[0];
  const corner = () => [...picture(canvas).getImageData(2, 2, 1, 1).data].slice(0, 3);
  const letters = all("figure.chart > svg text").filter(text => box(text).width);
  const scale = ({a, b}) => Math.hypot(a, b);
  const seen = {
    scroll: page.documentElement.scrollWidth,
    right: Math.max(...all("figure, .scroll, canvas, button, .servers").map(part => box(part).right)),
    letters: Math.min(...letters.map(text => parseFloat(style(text).fontSize) * scale(text.getScreenCTM()))),
    ground: corner(),
  };
  const {height} = canvas, folded = () => all("details:not([open])").length;
  const before = folded();
  view.dispatchEvent(new view.Event("beforeprint"));
  seen.printed = corner();
  seen.finer = canvas.height / height;
  seen.folded = [before, folded()];
  view.dispatchEvent(new view.Event("afterprint"));
  seen.after = corner();
  seen.folded.push(folded());
  return seen;
"""


@pytest.mark.parametrize(("scheme", "ground"), [(1, [255, 255, 255]), (0, [20, 23, 27])])
def test_it_fits_a_phone_and_follows_light_and_dark(folder, scheme, ground):
    seen = probed(folder, folder / "page.html", 390, LOOK, f"--blink-settings=preferredColorScheme={scheme}")
    assert isinstance(seen, dict), seen
    assert seen["scroll"] == 390
    assert seen["right"] <= 390
    assert seen["letters"] > 9
    assert seen["ground"] == seen["after"] == ground
    assert seen["printed"] == [255, 255, 255]
    assert seen["finer"] == pytest.approx(2, rel=0.01)
    folded, on_paper, after = seen["folded"]
    assert (folded, on_paper) == (after, 0)
    assert folded > 4


MANY = """
  const canvas = all("#gantt")[0], viewport = all("#viewport")[0];
  const heights = () => [canvas.clientHeight, viewport.scrollHeight, viewport.clientHeight];
  const before = heights(), middle = 46 + 0.75 * (canvas.clientWidth - 46), {left, top} = box(canvas);
  const shade = x => picture(canvas).getImageData(x, 22 + 3 * 140 + 1, 1, 1).data[0];
  const pause = [shade(middle - 8), Math.min(...[-1, 0, 1, 2].map(step => shade(middle + step)))];
  const there = {clientX: left + middle + 2, clientY: top + 22 + 3 * 140 + 1, pointerType: "mouse", bubbles: true};
  viewport.dispatchEvent(new view.PointerEvent("pointermove", there));
  const told = page.getElementById("tip").textContent;
  all("[data-do=taller]")[0].click();
  all("[data-do=taller]")[0].click();
  await frame();
  const strip = all("#overview")[0], busy = picture(strip);
  const share = x => {
    const column = busy.getImageData(Math.round(x * strip.width), 0, 1, strip.height).data;
    const shades = [...Array(strip.height).keys()].slice(3, -3).map(y => column[4 * y]);
    return shades.filter(shade => shade < 200).length / shades.length;
  };
  const shares = [share(47.2 / strip.clientWidth), share(0.3), share(0.8)];
  viewport.scrollTop = 1e6;
  await frame();
  return {before, after: heights(), scrolled: viewport.scrollTop, shares, pause, told};
"""


def test_many_gpus_have_rows_to_be_seen(folder):
    light = "--blink-settings=preferredColorScheme=1"
    seen = probed(folder, folder / "many.html", 1280, MANY, light, height=700)
    assert isinstance(seen, dict), seen
    high, content, room = seen["before"]
    assert content >= 256 * 3
    assert high == room <= 0.78 * 700
    high, content, room = seen["after"]
    assert content >= 256 * 3 * 1.9
    assert high == room <= 0.78 * 700
    assert seen["scrolled"] == pytest.approx(content - room, abs=1)
    assert seen["shares"] == pytest.approx([1.0, 1.0, 0.5], abs=0.05)
    ground, pause = seen["pause"]  # a line even where it took no time
    assert pause < ground - 40
    assert seen["told"] == "Not to be had: resumed at once"


def test_a_browser_obeys_no_name_and_the_console_is_silent(folder):
    dom, said = browse(folder, folder / "hostile.html", "--window-size=1200,1600")
    assert said == []
    assert "<title>gsched: " in dom
    assert 'data-from="0"' in dom
    assert (folder / "hostile.png").stat().st_size > 50_000


def test_it_can_be_printed(folder):
    paper = folder / "page.pdf"
    done = chromium(folder, folder / "page.html", f"--print-to-pdf={paper}")
    assert console(done) == []
    assert paper.stat().st_size > 50_000
