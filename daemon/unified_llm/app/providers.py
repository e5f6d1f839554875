"""Providers as the settings name them: opened, and asked for their models.

One that can not be used is no reason not to start: it is off, and the daemon's health says so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from unified_llm.domain.errors import ProviderDown, UnifiedLlmError
from unified_llm.domain.models import ModelId, is_model_id
from unified_llm.domain.ports import Backend, Timers
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.domain.units import Seconds
from unified_llm.providers.api import OfferedModel
from unified_llm.providers.backend import Deadlines, Provider
from unified_llm.providers.kinds import api_of
from unified_llm.providers.transport import Address, open_transport
from unified_llm.settings.credentials import CredentialError, read_key
from unified_llm.settings.sections.providers import ProviderSettings, ProvidersSettings

_log = logging.getLogger(__name__)

ASK_AGAIN: Final = Seconds(300)
"""How long the list of a provider's models is believed."""


class TakesRemoteModels(Protocol):
    """What the models are given to; operations.models.Models is one."""

    def replace_remote(self, models: Mapping[ModelId, RemoteModel], /) -> None: ...


@dataclass(slots=True)
class Providers:
    """Those that are on, and why the others are not. off: a sentence for each name."""

    settings: ProvidersSettings
    on: dict[str, Provider] = field(default_factory=dict)
    off: dict[str, str] = field(default_factory=dict)
    _offered: dict[str, tuple[OfferedModel, ...]] = field(default_factory=dict)
    _unlisted: dict[str, str] = field(default_factory=dict)

    def backends(self) -> Mapping[str, Backend]:
        """Those that can be asked, by name."""
        return self.on

    def complaints(self) -> tuple[str, ...]:
        """A sentence for each provider that does not work as configured."""
        return (*self.off.values(), *self._unlisted.values())

    async def run(self, models: TakesRemoteModels) -> None:
        """Keep `models` told of what providers have. Ends only when it is cancelled."""
        for name, settings in self.settings.items():
            self._offered[name] = tuple(OfferedModel(model) for model in settings.models or ())
        models.replace_remote(self._models())
        asked = [self.on[name] for name in self.on if self.settings[name].models is None]
        while asked:
            async with asyncio.TaskGroup() as group:
                for provider in asked:
                    group.create_task(self._ask(provider))
            models.replace_remote(self._models())
            await asyncio.sleep(ASK_AGAIN)

    async def _ask(self, provider: Provider) -> None:
        try:
            offered = await provider.offered_models()
        except UnifiedLlmError as error:
            # What it had before stays: a pause of the network takes no model away.
            if provider.name not in self._unlisted:
                _log.warning("models of %s are not known: %s", provider.name, error.message)
            self._unlisted[provider.name] = f"models are not known: {error.message}"
            return
        self._unlisted.pop(provider.name, None)
        self._offered[provider.name] = offered

    def _models(self) -> dict[ModelId, RemoteModel]:
        found: dict[ModelId, RemoteModel] = {}
        for name, offered in self._offered.items():
            kind = ProviderKind(self.settings[name].kind)
            for model in offered:
                id_ = f"{name}/{model.name}"
                if is_model_id(id_):
                    found[ModelId(id_)] = RemoteModel(
                        ModelId(id_),
                        name,
                        kind,
                        model.name,
                        model.context_tokens,
                        is_on=name in self.on,
                    )
        return found


@asynccontextmanager
async def open_providers(
    settings: ProvidersSettings, credentials: Path | None, timers: Timers
) -> AsyncIterator[Providers]:
    """All of them, each with its connections, until the context is left.

    credentials: `$CREDENTIALS_DIRECTORY`; None if it is not set.
    """
    async with AsyncExitStack() as stack:
        found = Providers(settings)
        for name, each in settings.items():
            try:
                opening = _open_provider(name, each, credentials, timers)
                found.on[name] = await stack.enter_async_context(opening)
            except (CredentialError, ProviderDown) as error:
                found.off[name] = f"provider {name} is off: {error}"
                _log.warning("%s", found.off[name])
        yield found


@asynccontextmanager
async def _open_provider(
    name: str, settings: ProviderSettings, credentials: Path | None, timers: Timers
) -> AsyncIterator[Provider]:
    key = None if settings.key is None else read_key(credentials, settings.key)
    address = Address(
        url=settings.address,
        socket=settings.socket,
        proxy=settings.proxy,
        ca_file=settings.ca_file,
        connect=settings.connect_seconds,
    )
    deadlines = Deadlines(
        first_event=settings.first_event_seconds,
        between_events=settings.between_events_seconds,
        total=settings.total_seconds,
    )
    kind = ProviderKind(settings.kind)
    async with open_transport(address, key) as transport:
        api = api_of(kind, with_summary=settings.reasoning_summary)
        yield Provider(name, kind, api, transport, timers, deadlines, key)
