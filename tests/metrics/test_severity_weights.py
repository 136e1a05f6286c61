import math

import pytest

from itera_nb.exceptions import DataError
from itera_nb.metrics.severity import severity_weights


def test_weights_are_sizes_up_to_the_cap():
    assert severity_weights([-5, "7.5", 100, 0], 10).tolist() == [5, 7.5, 10, 0]
    assert severity_weights([3, 4e9]).tolist() == [3, 4e9]


@pytest.mark.parametrize("bad", [None, math.nan, "high", math.inf])
def test_a_row_without_a_size_is_refused_by_count(bad):
    with pytest.raises(DataError, match="1 of 2 rows"):
        severity_weights([1, bad])
