"""The section `money`: what providers ask for, and how much may be spent."""

import re
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.settings.sections.fields import Section, about
from unified_llm.settings.sections.models import require_model_id
from unified_llm.settings.sections.providers import PROVIDER_PATTERN

Dollars = Annotated[float, Field(ge=0, le=1_000_000)]
_UNIT = "dollars per million tokens"


def _ensure_date(text: str) -> str:
    try:
        # date.fromisoformat takes other forms too.
        is_date = date.fromisoformat(text).isoformat() == text
    except ValueError:
        is_date = False
    if not is_date:
        raise PydanticCustomError("date", "is not a date such as 2026-11-22")
    return text


class PriceSettings(Section):
    """What the provider of a model asks for its tokens. What is left out is not known."""

    input: Dollars = Field(
        description="For the prompt, but for what follows.", json_schema_extra=about(_UNIT)
    )
    output: Dollars = Field(
        description="For the answer, what the model thinks included.",
        json_schema_extra=about(_UNIT),
    )
    cached: Dollars | None = Field(
        default=None,
        description="For the part of a prompt that is read from the provider's cache.",
        json_schema_extra=about(_UNIT, "answers that read from a cache have an unknown cost then"),
    )
    cache_write: Dollars | None = Field(
        default=None,
        description="For the part of a prompt that is kept in the provider's cache for minutes.",
        json_schema_extra=about(_UNIT, "few providers have such a price"),
    )
    long_cache_write: Dollars | None = Field(
        default=None,
        description="For the part that is kept there for hours.",
        json_schema_extra=about(_UNIT, "it is kept so only where somebody asks for it"),
    )
    reasoning: Dollars | None = Field(
        default=None,
        description="For what the model thinks; null if that is paid like the rest of the answer.",
        json_schema_extra=about(_UNIT, "providers do not tell them apart"),
    )
    as_of: Annotated[str, Field(min_length=10, max_length=10), AfterValidator(_ensure_date)] = (
        Field(
            description="The day on which the price was looked up.",
            json_schema_extra=about(form="date such as 2026-11-22"),
        )
    )


class BudgetSettings(Section):
    """How much may be spent. A request that may cost more than is left is not made."""

    dollars: Dollars = Field(
        description="The most that is spent in a period.", json_schema_extra=about("US dollars")
    )
    period: Literal["day", "month"] = Field(
        default="month",
        description="How long it is for; days and months begin at midnight UTC.",
        json_schema_extra=about(reason="as providers send their bills"),
    )
    users: Annotated[
        tuple[Annotated[str, Field(pattern=r"^uid:(0|[1-9][0-9]{0,9})$")], ...],
        Field(strict=False, max_length=1000),
    ] = Field(
        default=(),
        description=(
            "Whose requests count, such as `uid:1000`; with no groups either, everybody's do."
        ),
        json_schema_extra=about(reason="nobody is forgotten", form="list of uid:NUMBER"),
    )
    groups: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$")], ...],
        Field(strict=False, max_length=100),
    ] = Field(
        default=(),
        description=(
            "Unix groups whose members' requests count as well; everybody's do while one of them "
            "is not known."
        ),
        json_schema_extra=about(reason="most budgets name users or nobody", form="list of names"),
    )
    provider: Annotated[str, Field(pattern=f"^{PROVIDER_PATTERN}$")] | None = Field(
        default=None,
        description="Only what this provider is asked counts; null for all of them.",
        json_schema_extra=about(reason="money is money", form="name of a provider"),
    )
    shared: bool = Field(
        default=False,
        description="One amount for all these users together, instead of one for each.",
        json_schema_extra=about(reason="one user can not take it from another"),
    )
    warn_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=80,
        description="When so much of it is spent, log and D-Bus say so, once in a period.",
        json_schema_extra=about("percent", "leaves time to do something about it"),
    )


class MoneySettings(Section):
    """Prices, and budgets that are kept by them. Nothing here concerns models of this machine."""

    prices: dict[Annotated[str, AfterValidator(require_model_id)], PriceSettings] = Field(
        default={}, description="By the model's id, `<provider>/<model>`."
    )
    budgets: dict[str, BudgetSettings] = Field(default={}, description="By name.")
    assumed_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=4096,
        description=(
            "How long an answer is taken to be, for the money that is set aside, when a request "
            "sets no limit of its own."
        ),
        json_schema_extra=about("tokens", "most answers are shorter"),
    )
    assumed_image_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=50_000,
        description=(
            "How many tokens an image is taken to have, for the money that is set aside; only its "
            "provider can count them, and does so in the end."
        ),
        json_schema_extra=about(
            "tokens", "generous, since what is not used comes back when the answer ends"
        ),
    )

    @model_validator(mode="after")
    def _names_are_plain(self) -> Self:
        for name in self.budgets:
            if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
                raise PydanticCustomError(
                    "budget_name",
                    "{name} is no name of a budget: 1 to 32 of a-z 0-9 -, a letter first",
                    {"name": name[:40]},
                )
        return self
