"""A policy of one's own: use GPUs that already hold a model for as long as they have work, and switch only then.

Try it: gsched simulate --policy examples/fewest_switches.py:FewestSwitches --config examples/documents.json
--requests examples/documents_requests.yaml --gpus 8
"""


class FewestSwitches:
    """Serves warm models first; an idle gang changes its model only for the largest backlog without one."""

    def choose(self, view):
        for model in view.waiting():
            gang = view.warm_gang(model)
            if gang is not None:
                return model, gang
        for model in sorted(view.waiting(), key=view.backlog, reverse=True):
            gang = view.idle_gang(model)
            if gang is not None:
                return model, gang
        return None
