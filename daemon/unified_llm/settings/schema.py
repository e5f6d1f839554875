"""Every setting there is: its type, unit, range and default, and the reason for the default.

This and the sections are the one declaration. The messages of `load`, the JSON schema and the
reference page are all made from it, so a setting is complete when it is written there.
"""

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import ModelId, adapted_id, is_model_id
from unified_llm.settings.sections.dbus import DbusSettings
from unified_llm.settings.sections.downloads import DownloadsSettings
from unified_llm.settings.sections.fields import Section
from unified_llm.settings.sections.hardware import HardwareSettings
from unified_llm.settings.sections.host import HostSettings
from unified_llm.settings.sections.log import LogSettings
from unified_llm.settings.sections.memory import MemorySettings
from unified_llm.settings.sections.models import DefaultsSettings, ModelsSettings
from unified_llm.settings.sections.money import MoneySettings
from unified_llm.settings.sections.providers import ProvidersSettings
from unified_llm.settings.sections.registry import RegistrySettings
from unified_llm.settings.sections.requests import RequestsSettings
from unified_llm.settings.sections.routing import RoutingSettings
from unified_llm.settings.sections.scheduler import SchedulerSettings
from unified_llm.settings.sections.socket import SocketSettings
from unified_llm.settings.sections.worker import WorkerSettings


class Settings(Section):
    """The whole file."""

    models: ModelsSettings = ModelsSettings()
    defaults: DefaultsSettings = DefaultsSettings()
    downloads: DownloadsSettings = DownloadsSettings()
    memory: MemorySettings = MemorySettings()
    hardware: HardwareSettings = HardwareSettings()
    registry: RegistrySettings = RegistrySettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    worker: WorkerSettings = WorkerSettings()
    requests: RequestsSettings = RequestsSettings()
    providers: ProvidersSettings = Field(
        default={}, description="Model servers elsewhere, by the name that their models begin with."
    )
    routing: RoutingSettings = RoutingSettings()
    money: MoneySettings = MoneySettings()
    socket: SocketSettings = SocketSettings()
    dbus: DbusSettings = DbusSettings()
    host: HostSettings = HostSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _has_one_namespace(self) -> Self:
        invented = (*self.routing.routes, *self.routing.aliases)
        for place, names in (("models", self.models.configured), ("routing", invented)):
            for name in names:
                provider, slash, _ = name.partition("/")
                if slash and provider in self.providers:
                    raise PydanticCustomError(
                        "model_clash",
                        "{model} under `{place}` would be taken for a model of provider {provider}",
                        {"model": name, "place": place, "provider": provider},
                    )
        for name in invented:
            if name in self.models.configured:
                raise PydanticCustomError(
                    "model_clash", "{name} is both a model and a route or alias", {"name": name}
                )
        return self

    @model_validator(mode="after")
    def _adapters_share_the_namespace(self) -> Self:
        taken = {*self.models.configured, *self.routing.routes, *self.routing.aliases}
        for model, entry in self.models.configured.items():
            for adapter in entry.adapters:
                name = adapted_id(ModelId(model), adapter)
                if name in taken:
                    raise PydanticCustomError(
                        "model_clash",
                        "{name} is both an adapter of {model} and a model, route or alias",
                        {"name": name, "model": model},
                    )
                if not is_model_id(name):
                    raise PydanticCustomError(
                        "adapter_id",
                        "{name} is longer than the id of a model may be",
                        {"name": name},
                    )
        return self
