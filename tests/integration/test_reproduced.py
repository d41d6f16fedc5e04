"""How often campaigns of one system are called compatible."""

import pytest

from analysis.report.reproduced import judge
from tests.support.campaigns import measured, typed

pytestmark = pytest.mark.integration


@pytest.mark.long
def test_compatible_campaigns_are_called_so_as_often_as_is_said():
    """95 % over all rows together; blocks of both differ by chance only, so that at least that many agree."""
    agreed = sum(
        all(row.compatible for row in judge(typed(measured(i)), typed(measured(1000 + i))).rows) for i in range(40)
    )
    assert agreed >= 36
