"""What a route is: the models it stands for, their order, and rules that change both."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import MODEL_ID_PATTERN
from unified_llm.domain.units import Bytes
from unified_llm.settings.sections.fields import Section, about
from unified_llm.settings.sections.models import require_model_id

ModelName = Annotated[str, Field(pattern=f"^{MODEL_ID_PATTERN}$")]
RequiredName = Annotated[str, AfterValidator(require_model_id)]
ModelNames = Annotated[tuple[ModelName, ...], Field(strict=False, min_length=1, max_length=32)]
MODELS_FORM: Final = "list of 1 to 32 model names"
_User = Annotated[str, Field(pattern=r"^uid:(0|[1-9][0-9]{0,9})$")]
Users = Annotated[tuple[_User, ...], Field(strict=False, max_length=1000)]
_SomeUsers = Annotated[tuple[_User, ...], Field(strict=False, min_length=1, max_length=1000)]
USERS_FORM: Final = "list of uid:NUMBER"
StrategyName = Literal[
    "in-order",
    "local-first",
    "cloud-first",
    "cost-optimised",
    "latency-optimised",
    "round-robin",
    "weighted",
    "custom",
]
_LARGEST_PROMPT: Final = 2**31


def _require_clock(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise PydanticCustomError("clock", "is not a time such as 22:30")
    return text


_Clock = Annotated[str, Field(min_length=5, max_length=5), AfterValidator(_require_clock)]
_CLOCK_FORM: Final = "time such as 22:30"


class WhenSettings(Section):
    """What a request must be like for a rule to apply: all that is said here; at least one."""

    models: ModelNames | None = Field(
        default=None,
        description="It asks for one of these names: the route's own, or an alias of it.",
        json_schema_extra=about(form=MODELS_FORM, default="any"),
    )
    users: _SomeUsers | None = Field(
        default=None,
        description="It is of one of these users, such as `uid:1000`.",
        json_schema_extra=about(form=USERS_FORM, default="any"),
    )
    least_prompt_bytes: Annotated[Bytes, Field(ge=0, le=_LARGEST_PROMPT)] | None = Field(
        default=None,
        description=(
            "Its messages and tools have as many in UTF-8 at least: bytes are known before any "
            "tokenizer has seen it."
        ),
        json_schema_extra=about("bytes", default="any"),
    )
    most_prompt_bytes: Annotated[Bytes, Field(ge=0, le=_LARGEST_PROMPT)] | None = Field(
        default=None,
        description="Its messages and tools have as many at most.",
        json_schema_extra=about("bytes", default="any"),
    )
    tools: bool | None = Field(
        default=None,
        description="It comes with tools, or without.",
        json_schema_extra=about(default="any"),
    )
    from_time: _Clock | None = Field(
        default=None,
        description=(
            "It comes at this local time or later; in quotes, as YAML takes 22:30 for a number."
        ),
        json_schema_extra=about(form=_CLOCK_FORM, default="midnight"),
    )
    until_time: _Clock | None = Field(
        default=None,
        description="It comes before this local time; the next day's, if that is not the later.",
        json_schema_extra=about(form=_CLOCK_FORM, default="midnight"),
    )
    on_battery: bool | None = Field(
        default=None,
        description=(
            "The machine is on battery, or is not; where nobody tells, neither is taken to be so."
        ),
        json_schema_extra=about(default="any"),
    )
    local_only: bool | None = Field(
        default=None,
        description="It must stay on this machine, or need not.",
        json_schema_extra=about(default="any"),
    )

    @model_validator(mode="after")
    def _says_something_possible(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise PydanticCustomError("route_rule", "has no condition: the route itself is that")
        least, most = self.least_prompt_bytes, self.most_prompt_bytes
        if least is not None and most is not None and least > most:
            raise PydanticCustomError(
                "route_rule",
                "never holds: no prompt has {least} bytes at least and {most} at most",
                {"least": least, "most": most},
            )
        if self.from_time is not None and self.from_time == self.until_time:
            raise PydanticCustomError(
                "route_rule", "begins and ends at {time}", {"time": self.from_time}
            )
        return self


class RuleSettings(Section):
    """What a route is for some requests: other targets, another strategy, or both."""

    when: WhenSettings
    targets: ModelNames | None = Field(
        default=None,
        description="The models it stands for then.",
        json_schema_extra=about(form=MODELS_FORM, default="the route's"),
    )
    strategy: StrategyName | None = Field(
        default=None,
        description="Which of them is asked first.",
        json_schema_extra=about(default="the route's"),
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.targets is None and self.strategy is None:
            raise PydanticCustomError("route_rule", "has neither targets nor a strategy")
        _ensure_once(self.targets or ())
        return self


class RouteSettings(Section):
    """A name that stands for several models, for instance a local one and one of a provider."""

    targets: ModelNames = Field(
        description="The models it stands for; those of a provider as `<provider>/<model>`.",
        json_schema_extra=about(form=MODELS_FORM),
    )
    strategy: StrategyName = Field(
        default="local-first",
        description=(
            "Which target is asked first, and which next when it does not answer: as they are "
            "written; those of this machine, loaded ones before others, and then those of "
            "providers; providers before this machine; what costs least; what has begun to "
            "answer soonest lately; each in its turn; each in its turn as often as its weight "
            "says; as `custom_strategy` says."
        ),
        json_schema_extra=about(reason="costs nothing, and tells nobody"),
    )
    custom_strategy: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] | None = (
        Field(
            default=None,
            description=(
                "With `custom`: an entry point of the group `unified_llm.strategies`, by its name. "
                "Its code runs in the daemon, with all the daemon's rights."
            ),
            json_schema_extra=about(
                reason="nobody else's code is run unasked", form="name of an entry point"
            ),
        )
    )
    weights: dict[
        RequiredName,
        Annotated[
            int,
            Field(
                ge=1,
                le=1000,
                description="Turns of this target, with `weighted`; 1 for one that is left out.",
                json_schema_extra=about("turns"),
            ),
        ],
    ] = Field(default={}, description="How often each target of a route has its turn.")
    local_only: bool = Field(
        default=False,
        description="Nothing that is asked under this name leaves the machine.",
        json_schema_extra=about(reason="the targets say where it goes"),
    )

    continues: bool = Field(
        default=False,
        description=(
            "Where an answer in plain text breaks off, another target goes on with it; a request "
            "may say otherwise (`x_unified_llm.continue`)."
        ),
        json_schema_extra=about(reason="two models do not write with one voice"),
    )
    rules: Annotated[tuple[RuleSettings, ...], Field(strict=False, max_length=64)] = Field(
        default=(),
        description="Looked at in their order; the first that applies to a request is used.",
        json_schema_extra=about(reason="the route is the same for all requests", form="list"),
    )

    @model_validator(mode="after")
    def _weighs_its_targets(self) -> Self:
        ruled = {target for rule in self.rules for target in rule.targets or ()}
        if strange := sorted(self.weights.keys() - set(self.targets) - ruled):
            raise PydanticCustomError(
                "route_weight", "has a weight for {name}, which is no target", {"name": strange[0]}
            )
        _ensure_once(self.targets)
        return self

    @model_validator(mode="after")
    def _names_its_custom_strategy(self) -> Self:
        is_custom = "custom" in {self.strategy, *(rule.strategy for rule in self.rules)}
        if is_custom != (self.custom_strategy is not None):
            raise PydanticCustomError(
                "route_custom", "strategy `custom` and `custom_strategy` need each other"
            )
        return self


def _ensure_once(targets: tuple[str, ...]) -> None:
    if len(set(targets)) != len(targets):
        raise PydanticCustomError("route_target", "names a target twice")
