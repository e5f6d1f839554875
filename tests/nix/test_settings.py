"""What the module writes is what the daemon reads: its own schema judges every rendered file."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel

from tests.nix.evaluation import CONFIGURATIONS, HERE, LIBRARIES, instantiate, machine, options
from unified_llm.app.reloading import FIXED_SECTIONS
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.settings.describe import schema_at
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.models import AdapterSettings, DefaultsSettings, ModelSettings
from unified_llm.settings.sections.providers import DEFAULT_URLS, ProviderSettings

_ENABLED = [name for name in CONFIGURATIONS if name != "disabled"]
_BESIDE_PYTHON = Path(sys.executable).parent


def _settings(name: str, library: Path = LIBRARIES[0]) -> Settings:
    written = json.dumps(machine(CONFIGURATIONS[name], library)["settings"])
    return parse_settings(written.encode(), source=name)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", _ENABLED)
def test_the_daemon_reads_what_the_module_writes(name: str, library: Path) -> None:
    assert isinstance(_settings(name, library), Settings)


def test_left_alone_the_module_means_the_daemons_defaults() -> None:
    assert _settings("cpu") == Settings()


def test_a_declared_model_is_run_as_it_says() -> None:
    models = _settings("declared_by_path").models.configured
    assert models[ModelId("qwen/coder:7b")] == ModelSettings(
        path=Path("/srv/models/coder.gguf"),
        context_tokens=Tokens(16384),
        slots=2,
        threads=8,
        keep_alive_seconds=Seconds(900.5),
        projector=Path("/srv/models/mmproj.gguf"),
        adapters={
            "law": AdapterSettings(path=Path("/srv/models/law.gguf"), scale=0.5),
            "poetry": AdapterSettings(path=Path("/srv/models/poetry.gguf")),
        },
    )


def test_forever_keeps_a_model_and_null_leaves_it_to_the_defaults() -> None:
    models = _settings("declared_by_path").models.configured
    always = models[ModelId("always")]
    assert "keep_alive_seconds" in always.model_fields_set
    assert always.keep_alive_seconds is None
    assert always.pinned
    assert always.preload
    fetched = _settings("declared_and_fetched").models.configured[ModelId("by-url")]
    assert fetched.model_fields_set == {"path", "pinned", "preload"}


def test_the_aliases_of_a_model_are_routed_to_it() -> None:
    assert _settings("declared_by_path").routing.aliases == {
        "default": "always",
        "gpt-4o-mini": "always",
    }


def test_imported_models_are_pruned_only_if_it_says_so() -> None:
    assert _settings("declared_by_path").downloads.prune
    assert "prune" not in _settings("declared_and_fetched").downloads.model_fields_set


def test_any_leaf_is_overridden_without_its_neighbours() -> None:
    found = _settings("overridden_leaves")
    tiny = found.models.configured[ModelId("tiny")]
    assert (tiny.slots, tiny.context_tokens, tiny.path) == (1, 2048, Path("/srv/models/tiny.gguf"))
    assert found.models.directory == Path("/srv/models")
    assert (found.socket.mode, found.socket.max_connections) == ("0666", 10)
    assert found.socket.path == Settings().socket.path
    assert found.scheduler.drain_seconds == Seconds(120)
    assert found.scheduler.queue_limit == 8
    assert found.memory.ram_budget_bytes == 16 * 1024**3
    assert found.defaults.keep_alive_seconds is None
    rules = found.routing.routes["smart"].rules
    assert [(each.when.until_time, each.strategy) for each in rules] == [
        ("06:00", "in-order"), (None, "round-robin"),
    ]  # fmt: skip


def _typed_settings() -> Iterator[tuple[tuple[str, ...], Any]]:
    prefix = "services.unified-llm.settings."
    for option in options():
        if option["name"].startswith(prefix):
            default = option["default"]["text"]
            yield tuple(option["name"].removeprefix(prefix).split(".")), json.loads(default)


def test_an_option_exists_only_for_a_setting_and_has_its_default() -> None:
    typed = dict(_typed_settings())
    assert typed
    for path, default in typed.items():
        schema = schema_at(path)
        assert schema is not None, path
        assert schema["default"] == default, path


def test_every_setting_of_a_model_can_be_declared() -> None:
    prefix = "services.unified-llm.models.declared.<name>."
    declared = {
        option["name"].removeprefix(prefix)
        for option in options()
        if option["name"].startswith(prefix)
    }
    assert {_camel_case(name) for name in ModelSettings.model_fields} <= declared


def test_every_setting_of_a_provider_has_an_option() -> None:
    prefix = "services.unified-llm.providers.<name>."
    offered = {
        option["name"].removeprefix(prefix)
        for option in options()
        if option["name"].startswith(prefix)
    }
    # The key itself is no option; these two say where it is.
    places = {"keyFile", "sopsSecret"}
    settings = {_camel_case(name) for name in ProviderSettings.model_fields} - {"key"}
    assert offered == settings | places | {"enable"}


@pytest.mark.parametrize(
    ("option", "section", "setting"),
    [
        ("providers.<name>.kind", ProviderSettings, "kind"),
        ("models.declared.<name>.cacheType", DefaultsSettings, "cache_type"),
        ("models.declared.<name>.gpu", DefaultsSettings, "gpu"),
        ("models.declared.<name>.speculation", DefaultsSettings, "speculation"),
    ],
)
def test_an_option_has_the_words_that_the_daemon_knows(
    option: str, section: type[BaseModel], setting: str
) -> None:
    (found,) = [each for each in options() if each["name"] == f"services.unified-llm.{option}"]
    words = re.findall(r'"([^"]*)"', found["type"])
    assert words == list(get_args(section.model_fields[setting].annotation))


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _same_texts() -> Iterator[tuple[str, str]]:
    """Options that take what the setting takes, null meaning the daemon's default for both."""
    for name in ("context_tokens", "slots", "cache_type", "gpu", "speculation", "priority"):
        text = DefaultsSettings.model_fields[name].description or ""
        yield f"models.declared.<name>.{_camel_case(name)}", text
    for name in ("pinned", "preload"):
        text = ModelSettings.model_fields[name].description or ""
        yield f"models.declared.<name>.{_camel_case(name)}", text
    for name in ProviderSettings.model_fields.keys() - {"key", "url", "socket"}:
        text = ProviderSettings.model_fields[name].description or ""
        yield f"providers.<name>.{_camel_case(name)}", text


@pytest.mark.parametrize(("option", "text"), sorted(_same_texts()))
def test_an_option_means_what_the_setting_means(option: str, text: str) -> None:
    """The options add units, which the reference of the settings has in a column of its own."""
    (found,) = [each for each in options() if each["name"] == f"services.unified-llm.{option}"]
    said = re.sub(", in (tokens|seconds)", "", " ".join(found["description"].split()))
    assert said.startswith(text)


def test_a_provider_is_asked_as_it_says() -> None:
    providers = _settings("providers").providers
    assert providers.keys() == {"deepseek", "workstation"}
    assert providers["deepseek"] == ProviderSettings(
        kind="deepseek", key="provider-deepseek", models=("deepseek-chat",)
    )
    assert providers["workstation"] == ProviderSettings(
        kind="openai-compatible",
        url="https://workstation.example/v1",
        proxy="http://proxy.example:3128",
        ca_file=Path("/etc/secrets/workstation-ca.pem"),
        connect_seconds=Seconds(2.5),
        first_event_seconds=Seconds(120),
        between_events_seconds=Seconds(90),
        total_seconds=Seconds(1200),
    )


@pytest.mark.parametrize("name", ["providers", "sops", "cuda_and_providers"])
def test_only_the_name_of_a_key_gets_into_the_settings(name: str) -> None:
    """They lie in the store, for everybody to read."""
    written = json.dumps(machine(CONFIGURATIONS[name])["settings"])
    assert '"key": "provider-deepseek"' in written
    assert "/etc/secrets/50" not in written
    assert "/run/secrets" not in written


def test_the_module_takes_those_addresses_for_this_machine_that_the_daemon_does() -> None:
    reach = (HERE.parents[1] / "nixos-module" / "reach.nix").read_text()
    known = dict(re.findall(r'defaultUrls\.(\w+) = "([^"]*)"', reach))
    hosts = {kind: urlsplit(url).hostname for kind, url in DEFAULT_URLS.items()}
    assert known == {
        kind: DEFAULT_URLS[kind] for kind, host in hosts.items() if host == "127.0.0.1"
    }


def test_the_module_restarts_the_daemon_for_exactly_what_a_reload_leaves() -> None:
    service = (HERE.parents[1] / "nixos-module" / "service.nix").read_text()
    listed = service.partition("reloadable = ")[2].partition(";")[0]
    reloadable = set(instantiate("--expr", listed))
    assert reloadable == Settings.model_fields.keys() - set(FIXED_SECTIONS)


def _run_check(settings: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    """Do what the derivation of the settings file does, with this checkout's daemon."""
    script = machine(CONFIGURATIONS["cpu"])["etc"]["unified-llm/config.yaml"]["script"]
    check, copy = script.splitlines()
    command = shlex.split(check)
    written = folder / "written.yaml"
    written.write_text(json.dumps(settings))
    assert copy == f"cp {command[-1]} $out"
    return subprocess.run(
        [_BESIDE_PYTHON / Path(command[0]).name, *command[1:-1], written],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_build_accepts_good_settings(tmp_path: Path) -> None:
    done = _run_check(machine(CONFIGURATIONS["overridden_leaves"])["settings"], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_build_refuses_a_mistyped_setting_and_says_which(tmp_path: Path) -> None:
    settings = machine(CONFIGURATIONS["cpu"])["settings"]
    done = _run_check({**settings, "scheduler": {"queue_limt": 3}}, tmp_path)
    assert done.returncode == 78
    assert "scheduler.queue_limt: is not a setting; did you mean 'queue_limit'?" in done.stderr
