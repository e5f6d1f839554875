"""settings.schema."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from unified_llm.domain.units import Seconds
from unified_llm.settings.describe import all_settings
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.socket import MAX_SOCKET_PATH_BYTES


def test_an_empty_file_means_the_stated_defaults() -> None:
    settings = Settings.model_validate({})
    assert settings.models.directory == Path("/var/lib/unified-llm/models")
    assert dict(settings.models.configured) == {}
    assert settings.defaults.context_tokens == 4096
    assert settings.defaults.keep_alive_seconds == Seconds(300)
    assert settings.memory.ram_budget_bytes is None
    assert settings.scheduler.queue_limit == 64
    assert settings.worker.engine == "llama"
    assert settings.socket.path == Path("/run/unified-llm/api.sock")
    assert settings.socket.mode == "0660"
    assert settings.dbus.address is None
    assert settings.log.level == "info"


def test_every_setting_says_what_it_is_and_why_its_default_is() -> None:
    found = list(all_settings())
    assert len(found) > 30
    for path, schema in found:
        assert schema["description"], path
        assert schema["reason"] or schema["default_text"] or "default" not in schema, path


def test_every_quantity_has_its_unit() -> None:
    for path, schema in all_settings():
        kinds = {choice.get("type") for choice in schema.get("anyOf", (schema,))}
        if kinds & {"integer", "number"}:
            assert schema["unit"], path


def test_names_that_end_in_a_unit_have_that_unit() -> None:
    for path, schema in all_settings():
        for unit in ("seconds", "bytes", "tokens"):
            if path[-1].endswith(f"_{unit}"):
                assert schema["unit"] == unit, path


def test_a_json_schema_can_be_generated() -> None:
    schema = json.loads(json.dumps(Settings.model_json_schema()))
    assert schema["additionalProperties"] is False
    models = schema["$defs"]["ModelsSettings"]
    assert models["additionalProperties"] == {"$ref": "#/$defs/ModelSettings"}
    assert "pattern" in models["propertyNames"]


def test_settings_survive_a_round_through_json() -> None:
    settings = Settings.model_validate({"models": {"a": {"path": "/a"}, "directory": None}})
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again.models.directory is None
    assert again.models.configured["a"].path == Path("/a")  # type: ignore[index]


def test_settings_cannot_be_changed() -> None:
    settings = Settings.model_validate({"models": {"a": {"path": "/a"}}})
    with pytest.raises(ValidationError):
        settings.log.level = "debug"
    with pytest.raises(TypeError):
        settings.models.configured["b"] = None  # type: ignore[index]


def test_a_model_takes_from_the_defaults_what_it_does_not_say() -> None:
    settings = Settings.model_validate(
        {
            "defaults": {"threads": 3, "slots": 2},
            "models": {"a": {"path": "/a", "slots": 1, "context_tokens": None}},
        }
    )
    (entry,) = settings.models.configured.values()
    run = entry.resolved(settings.defaults)
    assert (run.context_tokens, run.slots, run.threads) == (4096, 1, 3)
    assert run.keep_alive_seconds == Seconds(300)


def test_an_explicit_null_keeps_a_model_loaded_for_ever() -> None:
    settings = Settings.model_validate(
        {"models": {"a": {"path": "/a", "keep_alive_seconds": None}}}
    )
    (entry,) = settings.models.configured.values()
    assert entry.resolved(settings.defaults).keep_alive_seconds is None


def test_the_longest_socket_path_is_that_of_the_kernel() -> None:
    fitting = "/" + "s" * (MAX_SOCKET_PATH_BYTES - 1)
    assert str(Settings.model_validate({"socket": {"path": fitting}}).socket.path) == fitting
    with pytest.raises(ValidationError, match="108 bytes"):
        Settings.model_validate({"socket": {"path": fitting + "s"}})
