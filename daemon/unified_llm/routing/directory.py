"""Which backend has a model: those of this machine and those of providers, in one namespace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.errors import ProviderDenied
from unified_llm.domain.models import ModelSpec
from unified_llm.domain.ports import Backend
from unified_llm.domain.providers import RemoteModel

LOCAL: Final = "local"
"""What the backend of this machine is called; no provider can be."""


@dataclass(frozen=True, slots=True)
class Target:
    """A backend that can be asked. name: the provider's, or LOCAL."""

    name: str
    backend: Backend


class Directory:
    """Finds the one backend of a model. providers: those that are on, by name."""

    def __init__(self, local: Backend, providers: Mapping[str, Backend]) -> None:
        self._local = Target(LOCAL, local)
        self._providers = {name: Target(name, backend) for name, backend in providers.items()}

    def target_of(self, model: ModelSpec | RemoteModel) -> Target:
        """The backend that answers for `model`. Raises ProviderDenied if its provider is off."""
        if isinstance(model, ModelSpec):
            return self._local
        target = self._providers.get(model.provider)
        if target is None:
            raise ProviderDenied(
                f"Provider {model.provider} is off.",
                hint="The daemon's health says why; the operator can change it.",
            )
        return target
