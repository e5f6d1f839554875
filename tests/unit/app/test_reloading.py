"""A reload changes what can be changed, and never half of what belongs together."""

import json
from typing import Any

from unified_llm.app.reloading import in_force
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings

FAR = {"kind": "openai-compatible", "url": "https://example.org/v1", "models": ["a"]}
NEAR = {**FAR, "url": "https://here.example.org/v1"}
KEPT = {"routes": {"smart": {"targets": ["lan/a"], "local_only": True}}}
OPEN = {"routes": {"smart": {"targets": ["lan/a"]}}}
BUDGET = {"budgets": {"all": {"dollars": 1, "provider": "lan"}}}


def parsed(**sections: Any) -> Settings:
    return parse_settings(json.dumps(sections).encode(), source="test")


def test_what_can_change_comes_into_force_and_the_rest_waits() -> None:
    running = parsed(log={"level": "info"}, scheduler={"queue_limit": 5}, routing=KEPT)
    wanted = parsed(log={"level": "debug"}, scheduler={"queue_limit": 6}, routing=OPEN)
    found, waiting = in_force(wanted, running)
    assert waiting == ("scheduler",)
    assert (found.log, found.routing) == (wanted.log, wanted.routing)
    assert found.scheduler == running.scheduler


def test_routes_and_money_wait_with_the_providers_that_they_were_written_for() -> None:
    running = parsed(providers={"lan": FAR}, routing=KEPT)
    wanted = parsed(providers={"lan": NEAR}, routing=OPEN, money=BUDGET, log={"level": "debug"})
    found, waiting = in_force(wanted, running)
    assert set(waiting) == {"providers", "routing", "money"}
    assert (found.providers, found.routing, found.money) == (
        running.providers, running.routing, running.money,
    )  # fmt: skip
    assert found.log == wanted.log


def test_what_came_into_force_before_is_what_stays() -> None:
    running = parsed(providers={"lan": FAR}, routing=KEPT)
    reloaded, _ = in_force(parsed(providers={"lan": FAR}, routing=OPEN), running)
    found, waiting = in_force(parsed(providers={"lan": NEAR}, routing=OPEN), reloaded)
    assert waiting == ("providers",)
    assert found.routing == reloaded.routing
    again, waiting = in_force(parsed(providers={"lan": FAR}, money=BUDGET), found)
    assert waiting == ()
    assert "all" in again.money.budgets
