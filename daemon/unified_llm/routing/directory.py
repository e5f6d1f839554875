"""Which backend has a model: those of this machine and those of providers, in one namespace."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from unified_llm.domain.errors import ProviderDenied
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.providers import RemoteModel
from unified_llm.routing.candidates import LOCAL

BackendT_co = TypeVar("BackendT_co", covariant=True)


class Directory(Generic[BackendT_co]):
    """Finds the one backend of a model. providers: those that are on, by name."""

    def __init__(self, local: BackendT_co, providers: Mapping[str, BackendT_co]) -> None:
        self._backends = {LOCAL: local, **providers}

    def name_of(self, model: ModelSpec | RemoteModel) -> str:
        """The backend that answers for `model`: LOCAL or a provider's name, be it on or off."""
        return LOCAL if isinstance(model, ModelSpec) else model.provider

    def backend(self, name: str) -> BackendT_co:
        """The backend of that name. Raises ProviderDenied if it is off."""
        found = self._backends.get(name)
        if found is None:
            raise ProviderDenied(
                f"Provider {name} is off.",
                hint="The daemon's health says why; the operator can change it.",
            )
        return found
