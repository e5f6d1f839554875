"""The section `providers`: what is refused, and that no secret can be written into it."""

import json

import pytest

from unified_llm.domain.errors import ConfigurationError
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings


def parsed(providers: dict[str, object], **others: object) -> Settings:
    return parse_settings(json.dumps({"providers": providers, **others}).encode(), source="test")


def problem(providers: dict[str, object], **others: object) -> str:
    with pytest.raises(ConfigurationError) as refused:
        parsed(providers, **others)
    (only,) = refused.value.problems
    return str(only)


def test_a_provider_needs_its_kind_and_nothing_else() -> None:
    found = parsed({"deepseek": {"kind": "deepseek"}}).providers["deepseek"]
    assert found.address == "https://api.deepseek.com"
    assert found.models is None


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"kind": "openai-compatible"}, "needs `url` or `socket`"),
        ({"kind": "openai", "url": "https://me:pw@host"}, "user or password"),
        ({"kind": "openai", "proxy": "http://me:pw@host"}, "user or password"),
        ({"kind": "openai", "url": "https://host/?key=1"}, "query"),
        ({"kind": "openai", "url": "ftp://host"}, "not an address"),
        ({"kind": "openai", "url": "https://[::1"}, "not an address"),
        ({"kind": "openai", "url": "https://host:99999"}, "not an address"),
        ({"kind": "openai", "key": "../../etc/shadow"}, "key"),
        ({"kind": "openai", "key": "sk-proj/abc"}, "key"),
        ({"kind": "openai", "url": "http://10.0.0.7/v1", "key": "k"}, "unencrypted"),
        ({"kind": "openai", "models": ["two words"]}, "models.0"),
        ({"kind": "opnai"}, "kind"),
        ({"kind": "openai", "reasoning_summary": True}, "can not ask for a reasoning_summary"),
        ({"kind": "openai", "api_key": "sk-1"}, "is not a setting"),
    ],
)
def test_what_can_not_work_is_refused(section: dict[str, object], told: str) -> None:
    assert told in problem({"far": section})


@pytest.mark.parametrize(
    "section",
    [
        {"kind": "openai-compatible", "url": "http://127.0.0.1:8000/v1", "key": "k"},
        {"kind": "openai-compatible", "url": "http://localhost:8000/v1/", "key": "k"},
        {"kind": "openai-compatible", "url": "http://[::1]:8000/v1", "key": "k"},
        {"kind": "openai-compatible", "socket": "/run/other/api.sock", "key": "k"},
        {"kind": "openai-compatible", "url": "http://10.0.0.7/v1"},
        {"kind": "openai", "key": "k", "models": ["gpt-4o", "ft:gpt-4o:me::1"]},
        {"kind": "openai-responses", "reasoning_summary": True},
    ],
)
def test_what_can_work_is_taken(section: dict[str, object]) -> None:
    assert not parsed({"far": section}).providers["far"].address.endswith("/")


@pytest.mark.parametrize("name", ["Far", "f/ar", "", "x" * 33, "local", "-far"])
def test_a_provider_has_a_name_that_ids_can_begin_with(name: str) -> None:
    assert "provider" in problem({name: {"kind": "openai"}})


def test_a_model_of_ours_can_not_be_named_like_one_of_a_provider() -> None:
    models = {"far/model": {"path": "/m.gguf"}}
    assert "far/model" in problem({"far": {"kind": "openai"}}, models=models)
    parsed({"other": {"kind": "openai"}}, models=models)
