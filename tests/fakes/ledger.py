"""A ledger in memory."""

from dataclasses import dataclass, field

from unified_llm.domain.usage import UsageLine


@dataclass(slots=True)
class FakeLedger:
    """Implements operations.spending.KeepsUsage."""

    lines: list[UsageLine] = field(default_factory=list)

    async def since(self, day: str, principal: str | None = None) -> tuple[UsageLine, ...]:
        """As in KeepsUsage."""
        return tuple(
            line for line in self.lines if line.day >= day and principal in {None, line.principal}
        )
