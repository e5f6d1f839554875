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
