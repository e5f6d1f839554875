"""Which rights are taken away. The effect on a real process is shown in tests/integration."""

import pytest

from unified_llm.worker.landlock import Access, handled_rights


@pytest.mark.parametrize(
    ("version", "newest", "count"),
    [
        (1, Access.MAKE_SYM, 13),
        (2, Access.REFER, 14),
        (3, Access.TRUNCATE, 15),
        (4, Access.TRUNCATE, 15),
        (5, Access.IOCTL_DEV, 16),
        (7, Access.IOCTL_DEV, 16),
        (99, Access.IOCTL_DEV, 16),
    ],
)
def test_each_version_takes_away_all_it_knows(version: int, newest: Access, count: int) -> None:
    handled = handled_rights(version)
    assert newest in handled
    assert handled == 2**count - 1
