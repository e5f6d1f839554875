"""Adapters in the settings: an allow-list with names of its own."""

import json
from typing import Any

import pytest

from unified_llm.domain.errors import ConfigurationError
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.models import MAX_ADAPTERS


def with_adapters(adapters: dict[str, Any], **more: Any) -> dict[str, Any]:
    entry = {"path": "/m", "adapters": adapters}
    return {"models": {"tiny": entry, **more.pop("models", {})}, **more}


def problem(settings: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        parse_settings(json.dumps(settings).encode(), source="test")
    (found,) = refusal.value.problems
    return f"{found.key}: {found.message}"


def test_an_adapter_has_a_path_and_a_scale() -> None:
    settings = Settings.model_validate(with_adapters({"law": {"path": "/law"}}))
    (entry,) = settings.models.configured.values()
    assert [(name, str(a.path), a.scale) for name, a in entry.adapters.items()] == [
        ("law", "/law", 1.0)
    ]


@pytest.mark.parametrize(
    ("adapters", "what"),
    [
        ({"a:b": {"path": "/a"}}, "is not the name of an adapter"),
        ({"law": {}}, "models.tiny.adapters.law.path: is missing"),
        ({"law": {"path": "law"}}, "is not absolute"),
        ({"law": {"path": "/law", "scale": 0}}, "models.tiny.adapters.law.scale: is 0"),
        ({"law": {"path": "/law", "rank": 4}}, "is not a setting"),
        (
            {f"a{number}": {"path": "/a"} for number in range(MAX_ADAPTERS + 1)},
            f"has {MAX_ADAPTERS + 1} adapters; at most {MAX_ADAPTERS}",
        ),
    ],
)
def test_what_is_wrong_with_adapters_is_told(adapters: dict[str, Any], what: str) -> None:
    assert what in problem(with_adapters(adapters))


def test_the_name_of_an_adapter_is_nobody_elses() -> None:
    law = {"law": {"path": "/law"}}
    models = {"tiny:law": {"path": "/other"}}
    assert "tiny:law is both an adapter of tiny and" in problem(with_adapters(law, models=models))
    routing = {"aliases": {"tiny:law": "tiny"}}
    assert "both an adapter of tiny and" in problem(with_adapters(law, routing=routing))
    long = {"m" * 100: {"path": "/m", "adapters": {"a" * 40: {"path": "/a"}}}}
    assert "longer than the id" in problem({"models": long})
