"""Two daemons, one the other's provider: what is asked when one of them does not answer."""

import asyncio
import json
import re
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from openai.types.chat import ChatCompletion

from tests.fakes.upstream import Cut, open_upstream, stream
from tests.own_strategies import write_strategies
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon, write_settings
from unified_llm.bus.connection import open_connection
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, ROOT_PATH
from unified_llm.bus.values import Variant, unwrap

pytestmark = [pytest.mark.system, pytest.mark.slow]

HELLO: list[Any] = [{"role": "user", "content": "Hello there."}]
ROUTING = {
    "routes": {
        "smart": {
            "strategy": "cloud-first",
            "targets": ["tiny", "far/tiny"],
            "rules": [{"when": {"least_prompt_bytes": 1000, "tools": True}, "targets": ["tiny"]}],
        }
    },
    "aliases": {"gpt-4o": "smart"},
}

PRICE = {"input": 1, "output": 2, "cached": 0.1, "as_of": "2026-11-22"}
MONEY = {"prices": {"far/tiny": PRICE}, "budgets": {"monthly": {"dollars": 5}}}


def test_a_route_falls_back_when_its_provider_is_gone() -> None:
    with open_daemon(with_bus=False) as upstream:
        far = {"kind": "openai-compatible", "socket": str(upstream.socket_path), "models": ["tiny"]}
        changes = {"providers": {"far": far}, "routing": ROUTING, "money": MONEY}
        with open_daemon(changes) as daemon, daemon.open_openai() as client:
            assert {model.id for model in client.models.list()} == {
                "tiny", "far/tiny", "smart", "gpt-4o",
            }  # fmt: skip

            def ask(**more: Any) -> list[str]:
                answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, **more)
                assert answer.choices[0].message.content == "Hello there."
                extras: Any = (answer.model_extra or {})["x_unified_llm"]
                cheaper.append(extras["cheaper"])
                return [f"{each['model']}:{each['code']}" for each in extras["tried"]]

            cheaper: list[Any] = []
            assert ask() == ["far/tiny:None"]
            local = {"x_unified_llm": {"local_only": True}}
            assert ask(extra_body=local) == ["tiny:None"]
            free = {"model": "tiny", "backend": "local", "cost_dollars": "0.000000"}
            assert cheaper == [free, None]
            asked_before = len(upstream.audit(1))
            upstream.process.kill()
            upstream.wait()
            assert ask() == ["far/tiny:provider-down", "tiny:None"]
            used = json.loads(daemon.run("unified-llm", "usage", "--json").stdout)
            assert {line["model"]: line["answers"] for line in used["lines"]} == {
                "far/tiny": 1, "tiny": 2,
            }  # fmt: skip
            (budget,) = used["budgets"]
            assert Decimal(budget["used_dollars"]) > 0
            usage = daemon.run("unified-llm", "usage").stdout
            assert "tiny (here)" in usage
            assert "budget monthly" in usage
            told = daemon.run("unified-llm", "route", "explain", "gpt-4o", "--json")
            targets = json.loads(told.stdout)["targets"]
            assert [each["model"] for each in targets] == ["far/tiny", "tiny"]
            assert Decimal(targets[0]["most_dollars"]) > 0
            assert (targets[1]["resident"], targets[1]["most_dollars"]) == (True, "0.000000")
            assert targets[1]["first_content_seconds"] > 0
            shown = daemon.run("unified-llm", "route", "explain", "gpt-4o", "--local-only")
            assert "the request keeps it on this machine" in shown.stdout
            assert "rule 1 does not apply: the prompt has 0 bytes, less than 1000" in shown.stdout
            ruled = daemon.run(
                *("unified-llm", "route", "explain", "smart"), "--tools", "--prompt-bytes", "1000"
            )
            assert "rule 1 applies: the prompt has 1000 bytes" in ruled.stdout
            assert "far/tiny" not in ruled.stdout
            assert "-      far/tiny" in shown.stdout
            kept = daemon.run("unified-llm", "chat", "--model", "far/tiny", "--local-only", "Hi")
            assert kept.returncode == 5
            bus = daemon.run(
                "busctl",
                *("--json=short", "--timeout=100", "call", "org.unifiedllm1", "/org/unifiedllm1"),
                *("org.unifiedllm1.Manager", "GenerateText", "ssa{sv}", "smart", "Bus"),
                *("1", "local_only", "b", "true"),
            )
            assert json.loads(bus.stdout)["data"][0] == "Bus", bus.stderr
        assert asked_before == 1


async def test_the_bus_tells_of_routes_and_of_a_budget_that_is_nearly_spent() -> None:
    with open_daemon(with_bus=False) as upstream:
        far = {"kind": "openai-compatible", "socket": str(upstream.socket_path), "models": ["tiny"]}
        money = {
            "prices": {"far/tiny": PRICE},
            "budgets": {"each": {"dollars": 0.001, "warn_percent": 1}},
            "assumed_output_tokens": 16,
        }
        changes = {"providers": {"far": far}, "routing": ROUTING, "money": money}
        with open_daemon(changes) as daemon:
            assert daemon.bus is not None
            async with open_connection(daemon.bus.address) as client, asyncio.timeout(PATIENCE):

                async def ask(member: str, signature: str, *values: object) -> list[object]:
                    call = (BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, member, signature)
                    return list(map(unwrap, await client.call(*call, *values)))

                warned = asyncio.Queue[tuple[object, ...]]()
                (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
                client.on_signal(
                    str(owner),
                    MANAGER_INTERFACE,
                    "BudgetWarning",
                    lambda signal: warned.put_nowait(signal.body),
                )
                order = ["cloud-first", False, ["tiny", "far/tiny"]]
                assert await ask("ListRoutes", "a{sv}", {}) == [
                    [["gpt-4o", *order], ["smart", *order]]
                ]
                told = await ask("ExplainRoute", "sa{sv}", "gpt-4o", {"tools": Variant("b", True)})
                name, strategy, kept, targets, rules = told
                assert (name, strategy, kept) == ("smart", "cloud-first", "")
                first, second = cast("list[dict[str, object]]", targets)
                assert (first["model"], first["place"], first["backend"]) == ("far/tiny", 1, "far")
                assert Decimal(str(first["most_dollars"])) > 0
                assert (second["model"], second["resident"]) == ("tiny", False)
                ((number, applies, why),) = cast("list[list[object]]", rules)
                assert (number, applies) == (1, False)
                assert "the prompt has 0 bytes" in str(why)
                await asyncio.to_thread(chat, daemon)
                budget, period, principal, dollars, limit = await warned.get()
                assert (budget, principal, limit) == ("each", "uid:0", "0.001000")
                assert re.fullmatch(r"2\d\d\d-\d\d", str(period))
                assert Decimal("0.00001") <= Decimal(str(dollars)) < Decimal("0.001")
                assert f"budget each of uid:0 for {period}: {dollars} of 0.001" in daemon.log()


def chat(daemon: WholeDaemon) -> None:
    with daemon.open_openai() as client:
        long: list[Any] = [{"role": "user", "content": "Hello there. " * 20}]
        client.chat.completions.create(model="far/tiny", messages=long)


def reload_with(daemon: WholeDaemon, **sections: Any) -> str:
    """What the daemon tells its manager when it has read them."""
    write_settings(daemon.folder, {"dbus": {"enabled": False}, **sections})
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("RELOADING=1")
    return daemon.wait_for("READY=1")


def test_changed_money_is_in_force_after_a_reload_and_knows_what_was_spent() -> None:
    with open_daemon(with_bus=False) as upstream:
        far = {"kind": "openai-compatible", "socket": str(upstream.socket_path), "models": ["tiny"]}
        sections: dict[str, Any] = {"providers": {"far": far}}
        body = {"model": "far/tiny", "messages": HELLO, "max_tokens": 16}
        with open_daemon(sections, with_bus=False) as daemon, daemon.open_http() as http:

            def ask() -> str:
                answer = http.post("/v1/chat/completions", json=body).json()
                if "error" in answer:
                    return str(answer["error"]["code"])
                return str(answer["x_unified_llm"]["cost_dollars"])

            assert ask() == "None"
            status = reload_with(daemon, **sections, money={"prices": {"far/tiny": PRICE}})
            assert "wait for a restart" not in status
            spent = Decimal(ask())
            assert spent > 0
            low: dict[str, Any] = {"dollars": 0.0001, "groups": ["root"]}
            money = {"prices": {"far/tiny": PRICE}, "budgets": {"each": low}}
            reload_with(daemon, **sections, money=money)
            (budget,) = http.get("/v1/usage").json()["budgets"]
            assert round(Decimal(budget["used_dollars"]), 6) == spent
            assert ask() == "budget-spent"
            low["groups"] = ["nogroup", "no-such-group"]
            reload_with(daemon, **sections, money=money)
            assert ask() == "budget-spent"
            (complaint,) = http.get("/health").json()["degraded"]
            assert "budget each names the group no-such-group" in complaint
            low["groups"] = ["nogroup"]
            reload_with(daemon, **sections, money=money)
            assert Decimal(ask()) == spent
            assert http.get("/health").json()["degraded"] == []


def test_routes_and_budgets_wait_for_the_providers_that_they_were_written_for() -> None:
    far = {"kind": "openai-compatible", "url": "http://127.0.0.1:9/v1", "models": ["tiny"]}
    smart = {"strategy": "cloud-first", "targets": ["far/tiny", "tiny"]}
    nobody = {"dollars": 5, "groups": ["no-such-group"]}
    sections: dict[str, Any] = {
        "providers": {"far": far},
        "routing": {"routes": {"smart": {**smart, "local_only": True}}},
        "money": {"budgets": {"old": nobody}},
    }
    other: dict[str, Any] = {
        "providers": {"far": {**far, "url": "http://127.0.0.1:10/v1"}},
        "routing": {"routes": {"smart": smart}},
        "money": {"budgets": {"new": nobody}},
    }
    with open_daemon(sections, with_bus=False) as daemon, daemon.open_http() as http:

        def found() -> tuple[bool, bool]:
            """Whether the new route holds, and whether the new budget does."""
            targets = http.post("/v1/routes/explain", json={"model": "smart"}).json()["targets"]
            degraded = " ".join(http.get("/health").json()["degraded"])
            assert ("budget old names" in degraded) != ("budget new names" in degraded)
            return targets[0]["model"] == "far/tiny", "budget new names" in degraded

        status = reload_with(daemon, **other)
        assert "providers, routing, money changed and wait for a restart" in status
        assert found() == (False, False)
        status = reload_with(daemon, **{**other, "providers": sections["providers"]})
        assert "wait for a restart" not in status
        assert found() == (True, True)


def test_a_changed_section_is_in_force_after_a_reload_and_a_wrong_one_never() -> None:
    with open_daemon({"routing": {"aliases": {"first": "tiny"}}}, with_bus=False) as daemon:

        def reload(routing: dict[str, Any]) -> str:
            return reload_with(daemon, routing=routing)

        with daemon.open_openai() as client:

            def models() -> set[str]:
                return {model.id for model in client.models.list()}

            long: list[Any] = [{"role": "user", "content": "!tokens 1000000 !step 0.01"}]
            with client.chat.completions.create(
                model="first", messages=long, stream=True
            ) as answer_stream:
                chunks = iter(answer_stream)
                next(chunks)
                status = reload({"routes": {"second": {"targets": ["tiny"]}}})
                assert "wait for a restart" not in status
                assert models() == {"tiny", "second"}
                for _ in range(5):
                    assert next(chunks).choices[0].finish_reason is None
            wrong = {"routes": {"third": {"targets": ["tiny"]}}, "aliases": {"third": "tiny"}}
            assert "third is both a route and an alias" in reload(wrong)
            assert models() == {"tiny", "second"}
            answer = client.chat.completions.create(model="second", messages=HELLO)
            assert answer.choices[0].message.content == "Hello there."


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


async def test_another_model_goes_on_where_a_provider_breaks_off(tmp_path: Path) -> None:
    place = tmp_path / "far.sock"
    far = {"kind": "openai-compatible", "socket": str(place), "models": ["x"]}
    routing = {"routes": {"smart": {"strategy": "cloud-first", "targets": ["tiny", "far/x"]}}}
    half = stream(delta("1 "), delta("2 "), delta("3"), Cut(), is_whole=False)
    async with open_upstream(half, socket=place):
        changes = {"providers": {"far": far}, "routing": routing}
        with open_daemon(changes, with_bus=False) as daemon:
            (text, found, end), whole = await asyncio.to_thread(ask_to_count, daemon)
    numbers = "".join(f"{each} " for each in range(1, 21))
    change = {"model": "tiny", "backend": "local", "offset": 5}
    assert (text, found) == (numbers, [(change, 5)])
    assert end["continued"] == [change]
    assert [f"{each['model']}:{each['code']}" for each in end["tried"]] == [
        "far/x:provider-failed",
        "tiny:None",
    ]
    assert whole.choices[0].message.content == numbers
    assert (whole.model_extra or {})["x_unified_llm"]["continued"] == [change]


def ask_to_count(
    daemon: WholeDaemon,
) -> tuple[tuple[str, list[tuple[Any, int]], Any], ChatCompletion]:
    """Streamed: the text, each change with the length before it, and the last extras; and whole."""
    counting: list[Any] = [{"role": "user", "content": "!tokens 20"}]
    asked: Any = {"model": "smart", "messages": counting}
    asked["extra_body"] = {"x_unified_llm": {"continue": True}}
    text, changes, end = "", [], None
    with daemon.open_openai() as client:
        with client.chat.completions.create(**asked, stream=True) as chunks:
            for chunk in chunks:
                extras: Any = (chunk.model_extra or {}).get("x_unified_llm", {})
                if chunk.choices[0].finish_reason is not None:
                    end = extras
                elif "continued" in extras:
                    changes.append((extras["continued"], len(text)))
                text += chunk.choices[0].delta.content or ""
        return (text, changes, end), client.chat.completions.create(**asked)


def test_a_strategy_of_somebody_elses_is_used_and_one_that_is_not_there_is_refused(
    tmp_path: Path,
) -> None:
    write_strategies(tmp_path)
    route = {"targets": ["elsewhere", "tiny"], "strategy": "custom"}
    routing = {"routes": {"own": route | {"custom_strategy": "backwards"}}}
    environment = {"PYTHONPATH": str(tmp_path)}
    with open_daemon({"routing": routing}, with_bus=False, environment=environment) as daemon:
        shown = daemon.run("unified-llm", "route", "explain", "own").stdout
        assert "ordered by strategy backwards" in shown
        file = daemon.folder / "config.yaml"
        wrong = {"routes": {"own": route | {"custom_strategy": "nobody"}}}
        write_settings(daemon.folder, {"dbus": {"enabled": False}, "routing": wrong})
        checked = daemon.run("unified-llmd", "--check-config", str(file))
        assert checked.returncode == 78
        assert "routing.routes.own.custom_strategy: no package has a strategy" in checked.stderr
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("RELOADING=1")
        assert "no package has a strategy 'nobody'" in daemon.wait_for("READY=1")
        assert "backwards" in daemon.run("unified-llm", "route", "explain", "own").stdout
