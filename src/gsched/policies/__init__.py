"""Policies: what decides. A policy is two small functions, and a table that it may compute up front.

`choose(core, table)` returns the model whose next node to start and the first GPU of the gang to start it on, or
`WAIT`; it is asked again until it waits. `order(core, table, node)` returns the key by which a node that became ready
is ordered among its model's ready nodes; without it they are served first-in first-out. Both see the state through the
queries of `gsched.core` and must not look at what has not arrived. Each built-in policy is a module of this package
with a function `build`, whose keyword arguments are the policy's options. `docs/policies.md` shows how to bring a
policy of one's own.
"""

import importlib
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Protocol

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.state import Core, Rows
from gsched.workload import Mode, Workload

BUILT_IN = (
    "baseline",
    "edf",
    "tiered",
    "offline",
    "improved",
    "hybrid",
    "static",
    "online",
    "search",
)
"""Names of the built-in policies, in the order in which tables show them."""


class Trial(Protocol):
    """Runs a policy over a workload, as one of so many times."""

    def __call__(self, policy: "Policy", workload: Workload, /, times: int = 1) -> Rows:
        """Return what happened."""


@dataclass(frozen=True)
class Setting:
    """What a policy is told before it decides.

    Args:
        known: the requests that it may plan with. Offline, all of them; online, those that have arrived, which are none
            at the start. Models and workflows are always known.
        cluster: the GPUs.
        mode: how requests arrive.
        trial: runs a policy over a workload in virtual time, in this mode and cluster, and returns what happened; told
            how many times such a trial will be run, it compiles them where that pays.
        progress: to be called now and then with the share of the planning that is done.
    """

    known: Workload
    cluster: Cluster
    mode: Mode
    trial: Trial
    progress: Callable[[float], None]


Placement = tuple[tuple[int, int], ...]
"""What is loaded before time 0: pairs of a model and the first GPU of its gang."""


def no_table(_setting: Setting) -> Any:
    """Return the table of a policy that needs none."""
    return ()


@dataclass(frozen=True)
class Policy:
    """A named pair of decision functions.

    Args:
        name: of the policy; files are named after it.
        choose: what to start where, or `WAIT`.
        order: key of a ready node within its model's queue; None for first-in first-out.
        prepare: computes the table that both see, before the run.
        place: computes what is loaded before time 0; None where nothing is. If anything is, it stays: nothing else is
            ever loaded, and a node may start only on a gang that holds its model, such as `warm_gang`.
        review: given what has arrived until now and the table, returns the table to go on with; called online each
            time the number of arrived requests has doubled.
        compilable: whether both functions are kernels (see `gsched.jit`).
        modes: how requests may arrive.
        options: the options that it was built with, for the log.
    """

    name: str
    choose: Callable[[Core, Any], tuple[int, int]]
    order: Callable[[Core, Any, int], float] | None = None
    prepare: Callable[[Setting], Any] = no_table
    place: Callable[[Setting], Placement] | None = None
    review: Callable[[Setting, Any], Any] | None = None
    compilable: bool = False
    modes: tuple[Mode, ...] = ("offline", "online")
    options: Mapping[str, Any] = field(default_factory=dict)


def find_policy(policy: object, options: Mapping[str, Any] | None = None) -> Policy:
    """Return the policy that is meant: a built-in name, `path.py:Class`, an object with `choose`, or a `Policy`.

    Args:
        policy: what was given.
        options: options of a built-in policy or of the class, by name; texts are converted.

    Raises:
        InputError: there is no such policy or option, or what was given is none.
    """
    options = options or {}
    if isinstance(policy, str) and policy in BUILT_IN:
        return _build(policy, options)
    if isinstance(policy, str) and ":" not in policy:
        known = ", ".join(BUILT_IN)
        raise InputError.one("", f"policy {policy}", "is unknown", f"choose {known}, or path.py:Class of your own")
    if not isinstance(policy, str) and options:
        raise InputError.one("", "options", "are for policies given by name", "set them on the object")
    if isinstance(policy, Policy):
        return policy
    from gsched.policies.custom import adapt, load

    return replace(adapt(load(policy, options) if isinstance(policy, str) else policy), options=dict(options))


def policy_options(name: str) -> dict[str, Any]:
    """Return the options of a built-in policy with their default values."""
    build = importlib.import_module(f"gsched.policies.{name}").build
    return {option: given.default for option, given in inspect.signature(build).parameters.items()}


def _build(name: str, given: Mapping[str, Any]) -> Policy:
    defaults = policy_options(name)
    for option in (option for option in given if option not in defaults):
        close = get_close_matches(option, defaults, 1)
        known = f"did you mean {close[0]}?" if close else f"it has {', '.join(defaults) or 'none'}"
        raise InputError.one("", f"policy {name}", f"has no option {option}", known)
    options = {option: _converted(name, option, value, type(defaults[option])) for option, value in given.items()}
    try:
        policy: Policy = importlib.import_module(f"gsched.policies.{name}").build(**options)
    except ValueError as error:
        raise InputError.one("", f"policy {name}", str(error), "correct the option") from None
    return policy


def _converted(policy: str, option: str, value: Any, kind: type) -> Any:
    """Return an option's value as the type of its default."""
    if kind is bool and isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    try:
        if isinstance(value, bool) == (kind is bool):
            return operator.index(value) if kind is int and not isinstance(value, str) else kind(value)
    except (TypeError, ValueError, OverflowError):
        pass
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, f"a {kind.__name__}")
    raise InputError.one("", f"policy {policy}", f"option {option} must be {wanted}, not {value!r}", "correct it")
