"""Row groups: the rows of each product."""

import numpy as np

from shared.index.row_groups import RowGroups


def test_rows_that_stand_together_are_one_product() -> None:
    groups = RowGroups.of(["p", "q", "q", "r", "r", "r"])
    assert groups.starts.tolist() == [0, 1, 3, 6]
    assert (groups.starts.dtype, groups.count) == (np.int32, 3)
    assert groups.first.tolist() == [0, 1, 3]
    assert groups.owners.tolist() == [0, 1, 1, 2, 2, 2]
    assert groups.owners_of(np.array([[5, 0], [2, 3]])).tolist() == [[2, 0], [1, 2]]
    assert [list(groups.rows(product)) for product in range(3)] == [[0], [1, 2], [3, 4, 5]]


def test_of_no_rows_there_are_no_groups() -> None:
    groups = RowGroups.of([])
    assert (groups.starts.tolist(), groups.count, groups.owners.tolist()) == ([0], 0, [])
