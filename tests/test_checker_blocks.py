"""What the checker computes block by block does not depend on where blocks begin."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import simulate_slowly
from strategies import RESIDENCIES, cases
from test_checker_shared import SCHEDULES, Start, log_of, workload_of

import gsched.checker.columns
from gsched.checker import Report, check
from gsched.log import Labels, Log
from gsched.workload import Workload

TIMES = ("start_time", "end_time", "execution_time", "switch_time", "ready_time", "waiting_time")


@st.composite
def damaged_logs(draw: st.DrawFn) -> tuple[Log, Workload]:
    """A log with up to a few altered values, and its workload."""
    case = draw(cases(max_requests=5, residencies=RESIDENCIES))
    log = simulate_slowly(*case)
    rows = st.integers(0, len(log) - 1)
    for name in draw(st.lists(st.sampled_from((*TIMES, "gpu_id")), max_size=3)):
        column = getattr(log, name).copy()
        column[draw(rows)] += draw(st.sampled_from([-2, 1, 100]))
        log = replace(log, **{name: column})
    if draw(st.booleans()):
        codes = log.node_id.codes.copy()
        codes[draw(rows)] = draw(st.integers(0, len(log.node_id.values)))
        log = replace(log, node_id=Labels(codes, [*log.node_id.values, "nobody"]))
    return log, case.workload


def check_in_blocks(log: Log, workload: Workload | None, block: int) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gsched.checker.columns, "_BLOCK", block)
        return check(log, workload)


@given(damaged_logs(), st.integers(1, 4))
def test_blocks_make_no_difference(problem: tuple[Log, Workload], block: int):
    log, workload = problem
    assert check_in_blocks(log, workload, block) == check(log, workload)


@given(cases(residencies=RESIDENCIES), st.integers(1, 4))
def test_a_valid_schedule_is_valid_in_blocks(case, block: int):
    assert check_in_blocks(simulate_slowly(*case), case.workload, block).valid


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_a_violation_is_found_in_every_block(block: int):
    start = np.array([0.0, 1.0, 2.0, 3.0, 1e6 - 2])  # each begins before the one before it has ended
    end = np.array([2.0, 3.0, 4.0, 1e6, 1e6])
    name = Labels(np.arange(5, dtype=np.int32), ["a", "b", "c", "d", "e"])
    log = Log(name, None, name, name, np.zeros(5, np.int32), start, end, execution_time=end - start - 5e-4)
    found = {violation.rule: violation.count for violation in check_in_blocks(log, None, block).violations}
    assert found == {"overlap": 4, "execution_time": 3}  # so late, half a millisecond is within the tolerance


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize(("starts", "switches"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_shared_gpus_are_followed_across_blocks(starts: list[Start], switches: int, block: int):
    assert check_in_blocks(log_of(starts, switches), workload_of(starts), block).valid


@given(damaged_logs())
def test_a_check_leaves_the_log_as_it_was(problem: tuple[Log, Workload]):
    log, workload = problem
    before = [np.copy(getattr(log, name)) for name in TIMES]
    check(log, workload)
    assert all(
        np.array_equal(getattr(log, name), column, equal_nan=True) for name, column in zip(TIMES, before, strict=True)
    )
