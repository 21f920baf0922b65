"""Policies of one's own, in plain Python: a class with `choose(view)`, and `order(view, node)` where it wants one."""

import importlib.util
import math
import operator
import re
import traceback
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from gsched import core as rules
from gsched.cluster import Cluster
from gsched.errors import InputError, PolicyError
from gsched.policies import Policy, Setting
from gsched.state import IDLE, NONE, Core
from gsched.workload import Model

_PACKAGE = Path(__file__).parent.parent


class View:
    """What a policy may see. Models and workflow nodes are known by their positions in the workload."""

    def __init__(self, core: Core, models: tuple[Model, ...], cluster: Cluster) -> None:
        self._core = core
        self.models = models
        self.cluster = cluster

    @property
    def now(self) -> float:
        """The current time in seconds."""
        return float(self._core.now[0])

    @property
    def idle_gpus(self) -> int:
        """How many GPUs are idle."""
        return int(self._core.gpus.count[IDLE])

    def waiting(self) -> Iterator[int]:
        """Yield the models with ready nodes, the one whose next node became ready first at the front."""
        models = [model for model in range(len(self.models)) if rules.backlog(self._core, model) > 0]
        return iter(sorted(models, key=lambda model: rules.head_sequence(self._core, model)))

    def backlog(self, model: int) -> int:
        """Return how many nodes of a model are ready."""
        return rules.backlog(self._core, _position(model, len(self.models), "model"))

    def work(self, model: int) -> float:
        """Return the seconds that the ready nodes of a model are expected to execute."""
        return rules.work(self._core, _position(model, len(self.models), "model"))

    def held_gangs(self, model: int) -> int:
        """Return how many gangs hold a model, idle or busy."""
        return rules.held_gangs(self._core, _position(model, len(self.models), "model"))

    def next_node(self, model: int) -> int:
        """Return the node of a waiting model that would start next."""
        return rules.head_node(self._core, self._waiting(model))

    def next_key(self, model: int) -> float:
        """Return that node's key, as `order` gave it (without `order`: when it became ready)."""
        return rules.head_key(self._core, self._waiting(model))

    def warm_gang(self, model: int) -> int | None:
        """Return the first GPU of the lowest idle gang that already holds a model."""
        return _or_none(rules.warm_gang(self._core, _position(model, len(self.models), "model")))

    def idle_gang(self, model: int) -> int | None:
        """Return the first GPU of the lowest idle gang on which a model may run."""
        return _or_none(rules.idle_gang(self._core, _position(model, len(self.models), "model")))

    def held_model(self, gpu: int) -> int | None:
        """Return the model that a GPU was last loaded for."""
        return _or_none(self._core.gpus.label_model[_position(gpu, self.cluster.gpus, "GPU")])

    def free_at(self, gpu: int) -> float:
        """Return when a GPU is expected to become idle, or became so."""
        return float(self._core.gpus.free_at[_position(gpu, self.cluster.gpus, "GPU")])

    def duration(self, node: int) -> float:
        """Return the seconds that a node which is ready, or was, is expected to execute."""
        return float(self._core.estimate[self._ready(node)])

    def request(self, node: int) -> int:
        """Return the position of the request of a node which is ready, or was."""
        return int(self._core.requests.of[self._ready(node)])

    def arrival(self, node: int) -> float:
        """Return when the request of such a node arrived, in seconds."""
        return float(self._core.requests.arrival[self.request(node)])

    def due(self, node: int) -> float:
        """Return when the request of such a node should be done, in seconds; infinity if it has no deadline."""
        request = self.request(node)
        return float(self._core.requests.due[request]) if len(self._core.requests.due) else math.inf

    def tier(self, node: int) -> int:
        """Return the tier of the request of such a node; 1 is the most important."""
        request = self.request(node)
        return int(self._core.requests.tier[request]) if len(self._core.requests.tier) else 1

    def wake_at(self, time: float) -> None:
        """Ask to be asked again at `time`, even if nothing happens until then; holds until `choose` is asked next."""
        rules.wake_at(self._core, float(time))

    def _waiting(self, model: int) -> int:
        if self.backlog(model) == 0:
            raise ValueError(f"no node of model {model} is ready")
        return model

    def _ready(self, node: int) -> int:
        """Return a node, unless it is of the future, which no policy may see."""
        if math.isnan(self._core.ready_time[_position(node, len(self._core.pending), "node")]):
            raise ValueError(f"node {node} is not ready yet")
        return node


def _position(value: int, count: int, what: str) -> int:
    if not 0 <= operator.index(value) < count:
        raise IndexError(f"there is no {what} {value}")
    return value


def _or_none(gpu: int) -> int | None:
    return None if gpu == NONE else int(gpu)


def load(spec: str, options: Mapping[str, Any]) -> object:
    """Return an instance of the class that `path.py:Class` names, made with the options as numbers or texts.

    Raises:
        InputError: there is no such file or class, or it cannot be made.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None or not path.is_file():
        raise InputError.one(path, "", "is no Python file", "name one as path.py:Class")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        return getattr(module, name)(**{option: _number_or_text(value) for option, value in options.items()})
    except (Exception, SystemExit) as error:  # whatever a user's file does wrong is the user's to see, in one line
        raise InputError.one(path, name, f"cannot be loaded ({type(error).__name__}: {error})") from error


def adapt(policy: object) -> Policy:
    """Return a `Policy` that asks a plain object.

    Raises:
        InputError: the object has no method `choose`.
    """
    name = str(getattr(policy, "name", type(policy).__name__))
    if not re.fullmatch(r"\w[\w.-]*", name):
        hint = "use letters, digits, dots, dashes and underscores, as files are named after it"
        raise InputError.one("", f"policy {name!r}", "has a name that no file can have", hint)
    if not callable(getattr(policy, "choose", None)):
        raise InputError.one("", f"policy {name}", "has no method choose(view)", "see docs/policies.md")

    def ask(method: str, core: Core, table: Setting, *node: int) -> Any:
        try:
            return getattr(policy, method)(View(core, table.known.models, table.cluster), *node)
        except (Exception, SystemExit) as error:  # a policy's mistakes are its author's to see, in one line
            frames = traceback.extract_tb(error.__traceback__)
            where = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)] or frames
            place = f"{where[-1].filename}:{where[-1].lineno}"
            raise PolicyError(f"policy {name}: {method} failed at {place}: {type(error).__name__}: {error}") from error

    def choose(core: Core, table: Setting) -> tuple[int, int]:
        decision = ask("choose", core, table)
        return rules.WAIT if decision is None else _checked(name, decision)

    def order(core: Core, table: Setting, node: int) -> float:
        answer = ask("order", core, table, node)
        try:
            key = float(answer) if isinstance(answer, Real) else math.nan
        except OverflowError:
            key = math.nan
        if math.isnan(key):
            raise PolicyError(f"policy {name}: order returned {answer!r:.60} for node {node}, not a number")
        return key

    return Policy(name, choose, order if callable(getattr(policy, "order", None)) else None, lambda setting: setting)


def _checked(name: str, decision: Any) -> tuple[int, int]:
    """Return a decision as two integers, of which a negative model would mean waiting."""
    try:
        model, gang = decision
        model, gang = operator.index(model), operator.index(gang)
    except (TypeError, ValueError):
        model = gang = NONE
    if model < 0:
        raise PolicyError(f"policy {name}: choose returned {decision!r}, not None or (model, first GPU)")
    return model, gang


def _number_or_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError):
            continue
    return value
