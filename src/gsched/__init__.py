"""gsched: schedule multi-model AI workflows on GPU clusters."""

__version__ = "0.1.0"
