"""One local stack for all end-to-end tests; xdist keeps them on one worker."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.search import Leak
from tests.support.stack import running_stack
from tests.support.stack_search import StackSearch, in_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Client

_SPAN = 20  # ports a stack uses, from its base


def free_port_base() -> int:
    """The first of a row of free ports."""
    for base in range(21000, 30000, 50):
        if all(_is_free(base + offset) for offset in range(_SPAN)):
            return base
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client to a stack of the tests' own; after all stories it is searched for marked values."""
    home = tmp_path_factory.mktemp("stack")
    with running_stack(home, free_port_base()) as client:
        yield client
        stack_search = StackSearch(client.local["aws_endpoint_url"])
        finds = stack_search.finds()
    finds += in_home(home)
    if finds:
        raise Leak(finds)
    assert all(stack_search.looked_at[service] for service in ("rows", "objects", "executions", "log events"))
