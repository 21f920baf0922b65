"""What a sweep consists of: workloads, policies, cluster sizes, loads and seeds, and every combination of them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os.path import isfile
from pathlib import Path
from typing import Any, NamedTuple

from gsched import __version__
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.files import read_bytes
from gsched.generator import generate
from gsched.metrics import options_for_json
from gsched.policies import Policy, find_policy
from gsched.session import require_mode
from gsched.workload import Config, Mode, Workload


@dataclass(frozen=True)
class Source:
    """Where the requests of a sweep's workload come from: a file, or a seed for each run.

    Args:
        config: models and workflows.
        recorded: the workload that was read; None where requests are drawn.
        drawn: arguments of `gsched.generate` but for config and seed; empty where requests were read.
        digests: SHA-256 of the files that were read: `config` and `requests`.
    """

    config: Config
    recorded: Workload | None
    drawn: Mapping[str, Any]
    digests: Mapping[str, str]

    def workload(self, seed: int | None) -> Workload:
        """Return the requests that were read, or those that a seed draws."""
        if self.recorded is not None:
            return self.recorded
        if seed is None:
            raise ValueError("requests are drawn from a seed")
        return generate(self.config, seed=seed, **self.drawn)

    @property
    def about(self) -> dict[str, Any]:
        """All that decides what the workload is, but for the seed, as JSON can say it."""
        return {"files": dict(self.digests), **({"drawn": dict(self.drawn)} if self.drawn else {})}


@dataclass(frozen=True)
class Choice:
    """A policy of a sweep: a built-in name or `path.py:Class`, and its options."""

    policy: str
    options: Mapping[str, Any]

    @property
    def found(self) -> Policy:
        """The policy itself.

        Raises:
            InputError: there is no such policy or option.
        """
        return find_policy(self.policy, self.options)

    @property
    def about(self) -> dict[str, Any]:
        """All that decides what the policy does, as JSON can say it; of files that it or its options name, the content.

        Raises:
            InputError: there is no such policy or option, or a file cannot be read.
        """
        options = self.found.options
        named = [self.policy.rpartition(":")[0], *(value for value in options.values() if isinstance(value, str))]
        files = [name for name in named if isfile(name)]  # noqa: PTH113 (no error where a text is too long for a name)
        digests = {name: hashlib.sha256(read_bytes(Path(name))).hexdigest() for name in files}
        return {"policy": self.policy, "options": options_for_json(options), **({"files": digests} if digests else {})}


class Case(NamedTuple):
    """One simulation of a sweep; `seed` is None where requests were read."""

    workload: str
    policy: str
    gpus: int
    load: float
    seed: int | None


@dataclass(frozen=True)
class Sweep:
    """A sweep: every policy, by the name it has in tables, on every workload, cluster size, load and seed.

    Args:
        sources: workloads by name.
        choices: policies by name.
        gpus: cluster sizes.
        loads: arrival rates relative to the workload's own; offline, how many times the requests.
        seeds: for workloads that are drawn.
        mode: when requests arrive.
        cluster: fields of `Cluster` but for `gpus`.

    Raises:
        InputError: nothing is left to do, or something makes no sense or does not fit together.
    """

    sources: Mapping[str, Source]
    choices: Mapping[str, Choice]
    gpus: tuple[int, ...]
    loads: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (1,)
    mode: Mode = "offline"
    cluster: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sources", "choices", "gpus", "loads", "seeds"):
            given = getattr(self, name)
            if not given:
                raise InputError.one("sweep", name, "there are none", "name at least one")
            if len(set(given)) < len(given):
                raise InputError.one("sweep", name, "one stands there twice", "name each once")
        if any(not 0 < load <= 1e6 for load in self.loads):
            raise InputError.one("sweep", "loads", "a load must be above 0 and at most 1,000,000", "for example 1,2,4")
        if any(not 0 <= seed < 2**63 for seed in self.seeds):
            raise InputError.one("sweep", "seeds", "a seed must be at least 0 and below 2**63", "for example 1,2,3")
        for gpus in self.gpus:
            self.cluster_of(gpus)
        for choice in self.choices.values():
            require_mode(choice.found, self.mode)

    def cluster_of(self, gpus: int) -> Cluster:
        """Return the cluster of so many GPUs.

        Raises:
            InputError: there is no such cluster.
        """
        try:
            return Cluster(gpus, **self.cluster)
        except (TypeError, ValueError) as error:
            raise InputError.one("sweep", "cluster", str(error), "correct it") from None

    @property
    def cases(self) -> Iterator[Case]:
        """All simulations: those that share a workload one after another, and the policies in turns.

        The latter lets processes that start together compile different policies, and find those of the others.
        """
        for name, source in self.sources.items():
            for seed in (None,) if source.recorded is not None else self.seeds:
                for load in self.loads:
                    for gpus in self.gpus:
                        yield from (Case(name, policy, gpus, load, seed) for policy in self.choices)

    @cached_property
    def about(self) -> dict[str, Any]:
        """The whole sweep as JSON can say it, with the version of gsched that carries it out."""
        return {
            "version": __version__,
            "mode": self.mode,
            "cluster": {name: value for name, value in asdict(self.cluster_of(self.gpus[0])).items() if name != "gpus"},
            "workloads": {name: source.about for name, source in self.sources.items()},
            "policies": {name: choice.about for name, choice in self.choices.items()},
            "gpus": list(self.gpus),
            "loads": list(self.loads),
            "seeds": list(self.seeds),
        }

    def key(self, case: Case) -> str:
        """Return what tells a simulation from all others, in this and every other sweep."""
        parts = {
            **{name: self.about[name] for name in ("version", "mode", "cluster")},
            "workload": self.about["workloads"][case.workload],
            "policy": self.about["policies"][case.policy],
            "case": [case.gpus, case.load, case.seed],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
