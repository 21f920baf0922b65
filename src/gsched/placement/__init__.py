"""Static deployment: which models stand on which GPUs before time 0, and stay."""

from gsched.placement.explain import explain_lines

__all__ = ["explain_lines"]
