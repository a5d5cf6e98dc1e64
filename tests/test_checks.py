"""What counts as a number."""

import math

import numpy as np
import pytest

from workbench.support.checks import check_positive, check_whole, number, require_lists


@pytest.mark.parametrize("value", [2, 2.0, np.int64(2), np.float32(2)])
def test_numbers_of_python_and_numpy_are_numbers(value):
    assert number(value) == 2.0


@pytest.mark.parametrize("value", [True, np.True_, "2", None, [2], 2j, 10**400])
def test_what_is_no_number_lies_in_no_range(value):
    assert math.isnan(number(value))


def test_whole_numbers_come_back_as_ints():
    for value in (0, 7, np.uint64(2**64 - 1)):
        found = check_whole("seed", value, 0, 2**64 - 1)
        assert type(found) is int
        assert found == value


@pytest.mark.parametrize("value", [0, 10, True, 1.0, "1", None, float("nan"), float("inf")])
def test_other_values_are_refused_with_the_span(value):
    with pytest.raises(ValueError, match=rf"^count {value!r}: give a whole number from 1 to 9$"):
        check_whole("count", value, 1, 9)


def test_without_a_most_the_span_is_open():
    assert check_whole("count", 10**30, 1) == 10**30
    with pytest.raises(ValueError, match=r"^count 0: give a whole number of at least 1$"):
        check_whole("count", 0, 1)


def test_a_positive_number_is_finite():
    assert check_positive("memory", np.int64(3)) == 3.0
    for wrong in (0, -1.0, math.inf, math.nan, True, "1", None):
        with pytest.raises(ValueError, match=f"memory {wrong!r}: give a positive number"):
            check_positive("memory", wrong)


def test_a_list_is_neither_a_text_nor_a_number():
    require_lists(layers=[1], names=(), nothing=None)
    for wrong, said in (("abc", "is one text, 'abc'"), (1, r"is not a list; give layers=\[1\]")):
        with pytest.raises(ValueError, match=f"layers .*{said}"):
            require_lists(layers=wrong)
