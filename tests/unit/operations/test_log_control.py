"""How much is logged."""

import logging
from collections.abc import Iterator

import pytest

from tests.fakes.house import ADMIN, USER, open_house
from unified_llm.domain.errors import InvalidRequest, NotPermitted
from unified_llm.operations.log_control import LEVELS


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.mark.parametrize("name", LEVELS)
async def test_a_level_is_set_and_read_back(name: str) -> None:
    async with open_house() as house:
        house.log.change(ADMIN, name)
        assert house.log.level == name
        assert logging.getLogger().level == LEVELS[name]
    assert house.trail.records[-1]["UNIFIED_LLM_ACTION"] == "configure"


async def test_what_is_no_level_changes_nothing() -> None:
    async with open_house() as house:
        house.log.change(ADMIN, "err")
        with pytest.raises(InvalidRequest, match="Levels are debug, info"):
            house.log.change(ADMIN, "notice")
        assert house.log.level == "err"


async def test_users_may_not() -> None:
    async with open_house() as house:
        with pytest.raises(NotPermitted):
            house.log.change(USER, "debug")
