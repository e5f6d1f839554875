"""What a caller has heard of an answer, as far as another target needs it to go on: pure."""

from dataclasses import dataclass, field

from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    ReasoningDelta,
    TextDelta,
    is_plain,
)
from unified_llm.domain.routing import Route
from unified_llm.domain.units import Tokens


@dataclass(slots=True)
class SoFar:
    """Kept only if it is wanted. pieces: that came; each was a token at least."""

    request: ChatRequest
    is_wanted: bool
    pieces: int = 0
    length: int = 0
    _texts: list[str] = field(default_factory=list)

    def add(self, event: ChatEvent) -> None:
        """The caller hears `event`."""
        if not self.is_wanted:
            return
        match event:
            case TextDelta(text=text):
                self._texts.append(text)
                self.length += len(text)
                self.pieces += 1
            case ReasoningDelta():
                self.pieces += 1
                # Thoughts after text are none that another could know of.
                self.is_wanted = not self._texts
            case _:
                self.is_wanted = False

    @property
    def may_be_continued(self) -> bool:
        """Whether its text has begun, and there is leave and room for more."""
        limit = self.request.max_tokens
        return self.is_wanted and self.length > 0 and (limit is None or self.pieces < limit)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._texts)

    @property
    def tokens_left(self) -> Tokens | None:
        """Of the request's limit."""
        limit = self.request.max_tokens
        return None if limit is None else Tokens(limit - self.pieces)


def begin_so_far(request: ChatRequest, route: Route) -> SoFar:
    """Nothing yet. The request decides whether it may be continued; else its route does."""
    asked = request.may_continue
    return SoFar(request, is_plain(request) and (route.continues if asked is None else asked))
