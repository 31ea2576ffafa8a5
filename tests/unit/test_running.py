"""What the test run itself relies on."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("the local stack")
def test_tests_of_one_group_stay_on_one_worker(request: pytest.FixtureRequest) -> None:
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not one of several workers that group tests")
    # xdist marks the group in the id. Where it fails to, two workers start two local stacks on the same ports.
    assert request.node.nodeid.endswith("@the local stack")
