from hypothesis import given, settings
from reference import simulate_slowly
from strategies import Case, cases

from gsched.check import check


@settings(max_examples=200)
@given(cases())
def test_every_schedule_of_the_reference_engine_is_valid(case: Case):
    report = check(simulate_slowly(*case), case.workload)
    assert report.violations == ()
    assert report.unchecked == ()
