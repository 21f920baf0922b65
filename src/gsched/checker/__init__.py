"""The checker: says whether a schedule obeys the rules of the simulated world, whoever made it.

It restates the rules in its own words and shares no code with the engine. Times may be off by 1e-6 s plus 1e-9 of the
row's `end_time`, totals by 1e-6 plus 1e-9 of their value; what is tied within that is not out of order. Rows count
from 0, as in the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import NamedTuple

import numpy as np

from gsched.checker.facts import Facts
from gsched.checker.outcome import ESTIMATORS, FLAGS
from gsched.checker.problems import Problem
from gsched.checker.rules import NEEDS, RULES, has
from gsched.checker.totals import TOTALS
from gsched.cluster import Cluster
from gsched.errors import one_line
from gsched.log import Log
from gsched.workload import Mode, Workload

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule broken in one way, `count` times.

    Args:
        rule: name of the rule, one of `Report.rules_checked`.
        message: what is wrong, with the place of the first few examples.
        rows: the rows of those examples; none where no row is to blame, as for a missing node or a wrong total.
        count: how often the rule is broken in this way.
    """

    rule: str
    message: str
    rows: tuple[int, ...] = ()
    count: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, and how far it could look.

    Args:
        violations: every way in which a rule is broken.
        unchecked: a sentence for everything that could not be checked.
        rules_checked: names of the rules that were checked.
    """

    violations: tuple[Violation, ...]
    unchecked: tuple[str, ...]
    rules_checked: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether no rule is broken, as far as could be checked."""
        return not self.violations


def check(
    log: Log, workload: Workload | None = None, cluster: Cluster | None = None, mode: Mode | None = None
) -> Report:
    """Check a log against every rule that the given knowledge allows.

    Args:
        log: the schedule.
        workload: what should have been executed; without it, only what the log itself shows is checked.
        cluster: by default the one in the log's summary.
        mode: how requests arrive; by default the one in the log's summary.
    """
    stated, violations = _stated(log)
    if cluster:
        wrong = [name for name, value in log.cluster_fields.items() if value != getattr(cluster, name)]
        violations += [Violation("summary", f"{name} is not that of the cluster") for name in wrong]
    if mode and stated.mode and mode != stated.mode:
        violations.append(Violation("summary", f"mode is {stated.mode!r}, not {mode!r}"))
    facts = Facts(log, workload, cluster or stated.cluster, mode or stated.mode)
    checked: list[str] = []
    claims: dict[str, list[str]] = {}  # that could not be checked, by reason
    with np.errstate(invalid="ignore", over="ignore"):
        for rule in (rule for rule in RULES if rule.about(facts)):
            if lacking := [NEEDS[need] for need in rule.needs if not has(facts, need)]:
                claims.setdefault(" and ".join(lacking), []).append(rule.claim)
                continue
            checked.append(rule.name)
            violations += [_violation(rule.name, found, facts) for found in rule.problems(facts) if len(found.items)]
        unseen = [name for name in TOTALS if log.summary.get(name) is not None and name not in facts.totals]
    if unseen:
        claims["too little is known"] = [f"{', '.join(unseen)} of the summary"]
    unchecked = [f"Not checked, as {why}: {'; '.join(those)}." for why, those in claims.items()]
    return Report(tuple(violations), (*_caveats(facts), *unchecked), tuple(checked))


class _Stated(NamedTuple):
    """What a summary says of the run."""

    cluster: Cluster | None
    mode: Mode | None


def _stated(log: Log) -> tuple[_Stated, list[Violation]]:
    """Return what the summary says, and where it makes no sense."""
    wrong, cluster, mode, gpus = [], None, log.summary.get("mode"), log.summary.get("gpus")
    try:
        cluster = log.cluster
    except (TypeError, ValueError) as error:
        wrong.append(f"the summary does not describe a cluster: {error}")
    if cluster and type(gpus) is not int and gpus != list(range(cluster.gpus)):
        wrong.append(f"gpus is {shortened(gpus)}, not 0 to {cluster.gpus - 1}")
    if mode not in ("offline", "online", None):
        wrong.append(f"mode is {shortened(mode)}, neither 'offline' nor 'online'")
        mode = None
    flags = {name: log.summary.get(name) for name in FLAGS}
    wrong += [f"{name} is {shortened(flag)}, not true or false" for name, flag in flags.items() if not _is_flag(flag)]
    if (estimator := log.summary.get("estimator")) not in (*ESTIMATORS, None):
        wrong.append(f"estimator is {shortened(estimator)}, none of {', '.join(ESTIMATORS)}")
    return _Stated(cluster, mode), [Violation("summary", text) for text in wrong]


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _caveats(facts: Facts) -> Iterator[str]:
    if facts.outcome.partial:
        yield "The run was stopped before its end: nodes that were not executed are not missing."
    if facts.log.gpu_ids is None and facts.workload is not None:
        yield "The log has no gpu_ids: gangs were taken to be as many GPUs as the model requires, from gpu_id on."
    elif facts.log.gpu_ids is None:
        yield "The log has no gpu_ids: only the first GPU of each gang was checked for overlap."
    if facts.log.switch_time is None:
        yield "The log has no switch_time: GPUs were taken to be occupied from start_time on."


def _violation(rule: str, problem: Problem, facts: Facts) -> Violation:
    shown = [int(item) for item in problem.items[:EXAMPLES]]
    texts = [problem.describe(item) for item in shown]
    if problem.in_rows:
        texts = [f"{facts.place(item)}: {text}" for item, text in zip(shown, texts, strict=True)]
    count = len(problem.items)
    more = f"; and {count - len(shown):,} more" if count > len(shown) else ""
    what = f"{problem.what}: " if problem.what else ""
    message = one_line(f"{what}{'; '.join(texts)}{more}")
    return Violation(rule, message, tuple(shown) if problem.in_rows else (), count)
