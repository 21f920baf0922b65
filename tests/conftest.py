"""Settings of the whole suite."""

import os

from hypothesis import HealthCheck, settings

from gsched.policies import search

# Tests of all policies would otherwise spend their time on the default search.
search.MOST_TRIALS = search.FEWEST_TRIALS = search.REVIEW_TRIALS = 6

# The same examples in every CI run: a change is judged by what it changes. Elsewhere each run tries new ones.
settings.register_profile(
    "default", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", parent=settings.get_profile("default"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
