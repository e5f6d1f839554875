"""Strategies are found by the names that routes give them, and no others are looked at."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.own_strategies import MODULE, write_strategies
from unified_llm.app.strategies import load_strategies
from unified_llm.domain.errors import ConfigurationError
from unified_llm.settings.sections.routing import RoutingSettings


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    write_strategies(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


def routing(*names: str) -> RoutingSettings:
    routes = {
        f"r{number}": {"targets": ["a"], "strategy": "custom", "custom_strategy": name}
        for number, name in enumerate(names)
    }
    return RoutingSettings.model_validate({"routes": routes})


def test_only_what_a_route_names_is_loaded() -> None:
    assert load_strategies(routing(), source="test") == {}
    assert MODULE not in sys.modules
    found = load_strategies(routing("backwards", "backwards"), source="test")
    assert list(found) == ["backwards"]
    assert MODULE in sys.modules


def test_every_strategy_that_can_not_be_used_is_told_by_its_route() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_strategies(routing("nobody", "missing", "broken", "number"), source="test")
    told = [str(problem) for problem in refused.value.problems]
    assert [each.partition(":")[0] for each in told] == [
        f"routing.routes.r{number}.custom_strategy" for number in range(4)
    ]
    assert "no package has a strategy 'nobody'; there are: backwards, " in told[0]
    assert f"{MODULE}:missing can not be loaded: AttributeError" in told[1]
    assert "can not be loaded: ValueError: broken on purpose" in told[2]
    assert f"{MODULE}:NUMBER is no function" in told[3]
