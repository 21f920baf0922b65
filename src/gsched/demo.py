"""The built-in workload of `gsched demo`: assistants, illustrated stories and document search on shared GPUs."""

from gsched.workload import Config, Model, Node, Workflow


def _llm(id: str, memory_gb: float, gpus: int, load: float, speed: float, tokens: float) -> Model:
    return Model(
        id,
        memory_gb,
        gpus,
        load,
        type="llm",
        tokens_per_second=speed,
        token_mean=tokens,
        token_std=tokens / 4,
    )


def _fixed(id: str, kind: str, memory_gb: float, load: float, mean: float) -> Model:
    return Model(id, memory_gb, 1, load, type=kind, inference_time_mean=mean, inference_time_std=mean / 5)


_MODELS = (
    _llm("chat-8b", 16, 1, 8, 60, 400),
    _llm("coder-34b", 68, 2, 25, 35, 500),
    _llm("expert-70b", 140, 4, 45, 25, 450),
    _fixed("embedder", "embedding", 2, 2, 0.4),
    _fixed("painter", "image_generation", 12, 6, 4.0),
)

_WORKFLOWS = (
    Workflow(
        "assistant",
        (
            Node("route", "chat-8b", ("user_prompt",), ("plan",)),
            Node("search", "embedder", ("plan",), ("passages",)),
            Node("answer", "expert-70b", ("plan", "passages"), ("draft",)),
            Node("polish", "chat-8b", ("draft",), ("reply",)),
        ),
        ((0, 1), (0, 2), (1, 2), (2, 3)),
        weight=2.0,
    ),
    Workflow(
        "code-review",
        (
            Node("summarize", "chat-8b", ("diff",), ("summary",)),
            Node("find-bugs", "coder-34b", ("diff",), ("bugs",)),
            Node("suggest", "coder-34b", ("summary", "bugs"), ("patch",)),
        ),
        ((0, 2), (1, 2)),
    ),
    Workflow(
        "illustrated-story",
        (
            Node("write", "chat-8b", ("idea",), ("story",)),
            Node("scene-1", "painter", ("story",), ("picture_1",)),
            Node("scene-2", "painter", ("story",), ("picture_2",)),
        ),
        ((0, 1), (0, 2)),
        weight=3.0,
    ),
)

CONFIG = Config({model.id: model for model in _MODELS}, {flow.id: flow for flow in _WORKFLOWS})

TIERS = {1: 1.0, 2: 2.0, 3: 1.0}
DEADLINES = {1: "20s+2x", 2: "60s+3x"}
