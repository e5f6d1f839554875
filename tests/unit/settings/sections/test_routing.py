"""The section `routing`: one namespace, and nothing that points nowhere by mistake."""

import json

import pytest

from unified_llm.domain.errors import ConfigurationError
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings


def parsed(routing: dict[str, object], **others: object) -> Settings:
    return parse_settings(json.dumps({"routing": routing, **others}).encode(), source="test")


def problem(routing: dict[str, object], **others: object) -> str:
    with pytest.raises(ConfigurationError) as refused:
        parsed(routing, **others)
    (only,) = refused.value.problems
    return str(only)


def test_a_route_needs_targets_and_nothing_else() -> None:
    found = parsed({"routes": {"smart": {"targets": ["tiny", "far/a"]}}}).routing
    assert found.routes["smart"].strategy == "local-first"
    assert found.max_attempts == 3


def rule(**fields: object) -> dict[str, object]:
    """Routing with a route of one rule."""
    return {"routes": {"smart": {"targets": ["a"], "rules": [fields]}}}


RULES: list[tuple[dict[str, object], str]] = [
    (rule(when={}, targets=["b"]), "rules.0.when: has no condition"),
    (rule(targets=["b"]), "rules.0.when: is missing"),
    (rule(when={"tools": True}), "rules.0: has neither targets nor a strategy"),
    (rule(when={"tools": "yes"}, targets=["b"]), "when.tools: is the text 'yes'"),
    (rule(when={"tool": True}, targets=["b"]), "when.tool: is not a setting; did you mean 'tools'"),
    (rule(when={"from_time": "25:00"}, targets=["b"]), "from_time: is not a time such as 22:30"),
    (rule(when={"from_time": 1350}, targets=["b"]), "is 1350 (expected time such as 22:30"),
    (rule(when={"from_time": "08:00", "until_time": "08:00"}, targets=["b"]), "begins and ends at"),
    (rule(when={"least_prompt_bytes": 9, "most_prompt_bytes": 8}, targets=["b"]), "never holds"),
    (rule(when={"users": []}, targets=["b"]), "when.users: is a list"),
    (rule(when={"users": ["uid:1", "al"]}, targets=["b"]), "when.users.1: is the text 'al'"),
    (rule(when={"models": ["x"]}, targets=["b"]), "rule 1 of route smart is for x, which is no"),
    (rule(when={"tools": True}, targets=["b", "b"]), "rules.0: names a target twice"),
    (rule(when={"tools": True}, strategy="custom"), "`custom_strategy` need each other"),
    ({"routes": {"smart": {"targets": ["a"], "custom_strategy": "x"}}}, "need each other"),
    (rule(when={"tools": True}, strategy="cheap"), "rules.0.strategy: is the text 'cheap'"),
]


def test_a_rule_has_conditions_and_says_what_the_route_is_then() -> None:
    when = {"models": ["smart", "gpt-4o"], "from_time": "22:00", "users": ["uid:1000"]}
    routing = rule(when=when, strategy="cloud-first") | {"aliases": {"gpt-4o": "smart"}}
    (found,) = parsed(routing).routing.routes["smart"].rules
    assert (found.targets, found.strategy, found.when.from_time) == (None, "cloud-first", "22:00")


@pytest.mark.parametrize(
    ("routing", "told"),
    [
        ({"routes": {"smart": {"targets": []}}}, "expected list of 1 to 32 model names"),
        ({"routes": {"smart": {"targets": ["a", "a"]}}}, "names a target twice"),
        ({"routes": {"smart": {"targets": ["a"], "weights": {"b": 2}}}}, "b, which is no target"),
        ({"routes": {"smart": {"targets": ["a"], "weights": {"a": 0}}}}, "weights.a: is 0"),
        ({"routes": {"a b": {"targets": ["a"]}}}, "is not a model id"),
        ({"routes": {"smart": {"targets": ["a"], "strategy": "cheap"}}}, "local-first"),
        ({"aliases": {"a": "b", "b": "c"}}, "alias a stands for another alias"),
        ({"routes": {"a": {"targets": ["x"]}}, "aliases": {"a": "x"}}, "both a route and an alias"),
        ({"fallbacks": {"a": "b"}}, "expected list of 1 to 32 model names"),
        ({"local_only_users": ["alice"]}, "local_only_users.0: is the text 'alice'"),
        ({"max_attempts": 0}, "is 0"),
        *RULES,
    ],
)
def test_what_is_wrong_is_told(routing: dict[str, object], told: str) -> None:
    assert told in problem(routing)


def test_models_routes_aliases_and_providers_share_one_namespace() -> None:
    routing: dict[str, object] = {"aliases": {"tiny": "big"}}
    models = {"tiny": {"path": "/tiny.gguf"}}
    assert "both a model and a route or alias" in problem(routing, models=models)
    far: dict[str, object] = {"aliases": {"far/x": "big"}}
    told = problem(far, providers={"far": {"kind": "openai"}})
    assert "far/x under `routing` would be taken for a model of provider far" in told
