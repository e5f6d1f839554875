"""The section `routing`: names that stand for several models, and what is tried for a request."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import MODEL_ID_PATTERN
from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import DAY, Deadline, Section, about
from unified_llm.settings.sections.models import require_model_id

_ModelName = Annotated[str, Field(pattern=f"^{MODEL_ID_PATTERN}$")]
_Name = Annotated[str, AfterValidator(require_model_id)]
_ModelNames = Annotated[tuple[_ModelName, ...], Field(strict=False, min_length=1, max_length=32)]
_MODELS_FORM = "list of 1 to 32 model names"


class RouteSettings(Section):
    """A name that stands for several models, for instance a local one and one of a provider."""

    targets: _ModelNames = Field(
        description="The models it stands for; those of a provider as `<provider>/<model>`.",
        json_schema_extra=about(form=_MODELS_FORM),
    )
    strategy: Literal[
        "in-order",
        "local-first",
        "cloud-first",
        "cost-optimised",
        "latency-optimised",
        "round-robin",
        "weighted",
    ] = Field(
        default="local-first",
        description=(
            "Which target is asked first, and which next when it does not answer: as they are "
            "written; those of this machine, loaded ones before others, and then those of "
            "providers; providers before this machine; what costs least; what has begun to "
            "answer soonest lately; each in its turn; each in its turn as often as its weight says."
        ),
        json_schema_extra=about(reason="costs nothing, and tells nobody"),
    )
    weights: dict[
        _Name,
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

    @model_validator(mode="after")
    def _weighs_its_targets(self) -> Self:
        if strange := sorted(self.weights.keys() - set(self.targets)):
            raise PydanticCustomError(
                "route_weight", "has a weight for {name}, which is no target", {"name": strange[0]}
            )
        if len(set(self.targets)) != len(self.targets):
            raise PydanticCustomError("route_target", "names a target twice")
        return self


class RoutingSettings(Section):
    """Names beside those of models, and how long others are tried when one does not answer."""

    routes: dict[_Name, RouteSettings] = Field(
        default={},
        description=(
            "By name. `auto` stands for the models of this machine unless it is set here."
        ),
    )
    aliases: dict[
        _Name,
        Annotated[
            str,
            Field(
                pattern=f"^{MODEL_ID_PATTERN}$",
                description="The model or route that is meant by this name.",
                json_schema_extra=about(form="name of a model or route"),
            ),
        ],
    ] = Field(default={}, description="Other names of models and routes.")
    fallbacks: dict[
        _Name,
        Annotated[
            _ModelNames,
            Field(
                description="What is asked, in this order, when this model does not answer.",
                json_schema_extra=about(form=_MODELS_FORM),
            ),
        ],
    ] = Field(default={}, description="What is asked instead of a model, by its name.")
    local_only_users: Annotated[
        tuple[Annotated[str, Field(pattern=r"^uid:(0|[1-9][0-9]{0,9})$")], ...],
        Field(strict=False, max_length=1000),
    ] = Field(
        default=(),
        description="Users of whose requests nothing leaves the machine, such as `uid:1000`.",
        json_schema_extra=about(
            reason="whoever asks a provider's model means it", form="list of uid:NUMBER"
        ),
    )
    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        default=3,
        description="Targets that are asked for one request at most, the first one included.",
        json_schema_extra=about("attempts", "whom three do not answer, a fourth seldom does"),
    )
    retry_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        default=20,
        description=(
            "Attempts beyond the first that may go to providers, per hundred requests of the whole "
            "daemon; ten more are saved up."
        ),
        json_schema_extra=about("percent", "a provider that is down is not flooded as well"),
    )
    patience_seconds: Annotated[Seconds, Field(ge=0, le=DAY)] = Field(
        default=Seconds(5),
        description=(
            "Longest time that a provider is waited for that said when to come back, when no other "
            "target is left."
        ),
        json_schema_extra=about("seconds", "who waits longer would rather be told"),
    )
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5,
        description=(
            "Failures in a row, of one kind, after which a provider is left alone for a while; "
            "half of the last twenty do as well, and so does what it says itself."
        ),
        json_schema_extra=about("failures", "fewer happen to providers that are well"),
    )
    breaker_seconds: Deadline = Field(
        default=Seconds(30),
        description=(
            "How long a provider is left alone that does not say; doubled each time that one "
            "request then finds it no better, up to 300."
        ),
        json_schema_extra=about("seconds", "a restart takes about as long"),
    )

    @model_validator(mode="after")
    def _has_one_namespace(self) -> Self:
        for name, model in self.aliases.items():
            if name in self.routes:
                raise PydanticCustomError(
                    "model_clash", "{name} is both a route and an alias", {"name": name}
                )
            if model in self.aliases:
                raise PydanticCustomError(
                    "model_clash", "alias {name} stands for another alias", {"name": name}
                )
        return self
