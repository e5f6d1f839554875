"""Tool calls of one answer, numbered from 0 as the domain wants them, whatever a provider does."""

from dataclasses import dataclass, field

from unified_llm.domain.errors import ProviderFailed


@dataclass(frozen=True, slots=True)
class BegunCall:
    """The first that is heard of a call."""

    index: int
    id: str
    name: str


@dataclass(slots=True)
class CallNumbers:
    """Which call a piece belongs to.

    Servers differ: some repeat id and name with each piece, some send each call whole under index
    0. A new id is a new call; anything else goes on with the call of that index.
    """

    _latest: dict[int, BegunCall] = field(default_factory=dict)
    _count: int = 0

    def begin(self, index: int, id_: str | None, name: str | None) -> BegunCall | None:
        """The call that begins with this piece; None if one goes on. Raises ProviderFailed."""
        known = self._latest.get(index)
        if known is not None and (not id_ or id_ == known.id):
            return None
        if not name:
            raise ProviderFailed("The provider began a tool call without the tool's name.")
        # A server that knows no ids (Ollama's kind) has to be given one: the answer names it.
        begun = BegunCall(self._count, id_ or f"call_{self._count}", name)
        self._latest[index] = begun
        self._count += 1
        return begun

    def number_of(self, index: int) -> int:
        """The number of the call that goes on under `index`."""
        return self._latest[index].index

    @property
    def count(self) -> int:
        """How many calls have begun."""
        return self._count
