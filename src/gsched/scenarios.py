"""What would change: a run as it is beside runs of which something is different, each checked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gsched.changes import scaled, without_model
from gsched.cluster import Cluster
from gsched.comparison import Outcome, attempt
from gsched.errors import InputError
from gsched.policies import Policy
from gsched.session import require_fit
from gsched.workload import Mode, Workload

TODAY, TOGETHER = "today", "all together"


@dataclass(frozen=True)
class Situation:
    """What is executed, where, by which policy, and how requests arrive."""

    workload: Workload
    cluster: Cluster
    policy: Policy
    mode: Mode


@dataclass(frozen=True)
class Change:
    """Something that could be different.

    Args:
        name: in few words.
        apply: returns the situation with it; raises an `InputError` where that is impossible.
        policy: whether it is another policy, of which there can be only one at a time.
    """

    name: str
    apply: Callable[[Situation], Situation]
    policy: bool = False


@dataclass(frozen=True)
class Scenario:
    """A situation and how it turned out.

    Args:
        name: of the change; `TODAY` for none.
        situation: None where the changes exclude each other.
        outcome: under the scenario's name; its summary has the further figure `gpu_hours`.
    """

    name: str
    situation: Situation | None
    outcome: Outcome


def more_gpus(count: int) -> Change:
    """Return the change to so many more GPUs, or to fewer where it is negative."""

    def apply(now: Situation) -> Situation:
        try:
            return replace(now, cluster=replace(now.cluster, gpus=now.cluster.gpus + count))
        except ValueError as error:
            raise InputError.one("", f"--add-gpus {count}", str(error), "choose another number") from None

    return Change(f"{count:+,} GPU{'' if abs(count) == 1 else 's'}", apply)


def more_load(factor: float) -> Change:
    """Return the change to a multiple of the load; see `gsched.changes.scaled`."""
    return Change(f"load x{factor:g}", lambda now: replace(now, workload=scaled(now.workload, factor, now.mode)))


def dropped_model(model: str) -> Change:
    """Return the change to a workload without a model, and without the requests that need it."""
    return Change(f"without {model}", lambda now: replace(now, workload=without_model(now.workload, model)))


def other_policy(policy: Policy) -> Change:
    """Return the change to another policy."""
    return Change(f"policy {policy.name}", lambda now: replace(now, policy=policy), policy=True)


def what_if(today: Situation, changes: Sequence[Change], tell: Callable[[str], None] | None = None) -> list[Scenario]:
    """Run a situation as it is, with each change alone and, where there are several, with all together.

    Together, changes are made in their order: GPUs add up and loads multiply. Where there are several policies, each
    gets its own run with all other changes.

    Args:
        today: as it is.
        changes: at least one.
        tell: called with the name of each scenario before it runs.

    Raises:
        InputError: a change alone is impossible, or a model does not fit today's cluster.
    """
    require_fit(today.workload.used_models, today.cluster)
    alone = [(TODAY, today), *((change.name, change.apply(today)) for change in changes)]
    scenarios = []
    for name, situation in [*alone, *_together(today, changes)]:
        if tell:
            tell(name)
        if isinstance(situation, InputError):
            problem = str(situation).replace("\n", "; ")
            scenarios.append(Scenario(name, None, Outcome(name, problem=problem)))
        else:
            scenarios.append(Scenario(name, situation, _outcome(name, situation)))
    return scenarios


def _together(today: Situation, changes: Sequence[Change]) -> Iterator[tuple[str, Situation | InputError]]:
    """Yield the situations with all changes, or why there is no such situation."""
    policies = [change for change in changes if change.policy]
    others = [change for change in changes if not change.policy]
    for last in [[policy] for policy in policies] or [[]]:
        name = f"{TOGETHER}, {last[0].name}" if len(policies) > 1 else TOGETHER
        if len(others + last) > 1:
            yield name, _all_applied(today, others + last)


def _all_applied(today: Situation, changes: Sequence[Change]) -> Situation | InputError:
    now = today
    try:
        for change in changes:
            now = change.apply(now)
    except InputError as error:
        return error
    return now


def _outcome(name: str, now: Situation) -> Outcome:
    outcome = attempt(now.workload, now.cluster, now.policy, now.mode)
    figures = {}
    if outcome.summary:
        figures = {**outcome.summary, "gpu_hours": now.cluster.gpus * outcome.summary["makespan"] / 3600}
    return replace(outcome, policy=name, summary=figures)
