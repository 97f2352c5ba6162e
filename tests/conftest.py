"""What a test leaves behind does not reach the next one."""

import dagster as dg
import pytest

from tests.codelocation import OPEN


@pytest.fixture(autouse=True)
def fresh_dagster(request):
    """Closes the code locations that a test has opened, and gives each test of Dagster an instance to begin with.

    Dagster keeps a reference to the instance that was entered last, also when that one is gone.
    """
    if not {"dg", "CodeLocation"} & vars(request.module).keys():
        yield
        return
    with dg.DagsterInstance.ephemeral():
        yield
        while OPEN:
            OPEN.pop().close()
