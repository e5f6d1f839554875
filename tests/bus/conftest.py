"""One private bus for all tests of this folder that do not end it."""

from collections.abc import Iterator

import pytest

from tests.private_bus import PrivateBus, private_bus


@pytest.fixture(scope="session")
def shared_bus() -> Iterator[PrivateBus]:
    """A bus on which root may own our name; whoever owns it gives it back."""
    with private_bus() as bus:
        yield bus
