"""What is asked of models: prompts and options from the requests, and what earlier nodes have answered."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gsched.live.run.executors import Answer, Call
from gsched.workload import Node, Workload

SEPARATOR = "\n\n"


class Prompts:
    """Makes the calls of a workload, and remembers the answers.

    Each of a node's `inputs` is what the request has under that name, or else what an earlier node that has it among
    its `outputs` answered. Where neither is there for any of them, it is given all that the request has, and what its
    parents answered.
    """

    def __init__(self, workload: Workload) -> None:
        """Begin without answers.

        Args:
            workload: with its `details`, where there are any.
        """
        self._workload = workload
        self._texts: dict[int, str] = {}

    def remember(self, node: int, answer: Answer) -> None:
        """Keep what a node has answered."""
        self._texts[node] = answer.output

    def call(self, node: int) -> Call:
        """Return what to ask for a node whose parents have answered."""
        workload = self._workload
        request, step = workload.step(node)
        flow, first = workload.workflows[workload.workflow[request]], int(workload.first_node[request])
        given = self._details("input_data", request)
        texts = self._inputs(step, given, flow.nodes, first)
        if not texts:
            parents = flow.parents[node - first]
            texts = [*map(_text, given.values()), *(self._texts.get(first + parent, "") for parent in parents)]
        data = {"prompt": SEPARATOR.join(filter(None, texts)), **self.options(node)}
        return Call(data, float(workload.duration[node]))

    def options(self, node: int) -> dict[str, Any]:
        """Return what the request wants of a node besides the prompt."""
        request, step = self._workload.step(node)
        options = self._details("node_configs", request).get(step.id)
        return options if isinstance(options, dict) else {}

    def _inputs(self, step: Node, given: Mapping[str, Any], nodes: Sequence[Node], first: int) -> list[str]:
        """Return the texts that a node's `inputs` name."""
        texts = []
        for name in step.inputs:
            if name in given:
                texts.append(_text(given[name]))
            else:
                texts += [self._texts.get(first + i, "") for i, node in enumerate(nodes) if name in node.outputs]
        return [text for text in texts if text]

    def _details(self, name: str, request: int) -> dict[str, Any]:
        column = self._workload.details.get(name)
        found = json.loads(column[request] or "{}") if column is not None else {}
        return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
