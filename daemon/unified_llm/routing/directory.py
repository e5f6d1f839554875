"""Which backend has a model: those of this machine and those of providers, in one namespace."""

from collections.abc import Mapping

from unified_llm.domain.errors import ProviderDenied
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.ports import Backend
from unified_llm.domain.providers import RemoteModel
from unified_llm.routing.candidates import LOCAL


class Directory:
    """Finds the one backend of a model. providers: those that are on, by name."""

    def __init__(self, local: Backend, providers: Mapping[str, Backend]) -> None:
        self._backends = {LOCAL: local, **providers}

    def name_of(self, model: ModelSpec | RemoteModel) -> str:
        """The backend that answers for `model`: LOCAL or a provider's name, be it on or off."""
        return LOCAL if isinstance(model, ModelSpec) else model.provider

    def backend(self, name: str) -> Backend:
        """The backend of that name. Raises ProviderDenied if it is off."""
        found = self._backends.get(name)
        if found is None:
            raise ProviderDenied(
                f"Provider {name} is off.",
                hint="The daemon's health says why; the operator can change it.",
            )
        return found
