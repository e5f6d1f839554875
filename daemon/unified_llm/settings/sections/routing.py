"""The section `routing`: names that stand for several models, and what is tried for a request."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import MODEL_ID_PATTERN
from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import DAY, Deadline, Section, about
from unified_llm.settings.sections.routes import (
    MODELS_FORM,
    USERS_FORM,
    ModelNames,
    RequiredName,
    RouteSettings,
    Users,
)


class RoutingSettings(Section):
    """Names beside those of models, and how long others are tried when one does not answer."""

    routes: dict[RequiredName, RouteSettings] = Field(
        default={},
        description=(
            "By name. `auto` stands for the models of this machine unless it is set here."
        ),
    )
    aliases: dict[
        RequiredName,
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
        RequiredName,
        Annotated[
            ModelNames,
            Field(
                description="What is asked, in this order, when this model does not answer.",
                json_schema_extra=about(form=MODELS_FORM),
            ),
        ],
    ] = Field(default={}, description="What is asked instead of a model, by its name.")
    local_only_users: Users = Field(
        default=(),
        description="Users of whose requests nothing leaves the machine, such as `uid:1000`.",
        json_schema_extra=about(reason="whoever asks a provider's model means it", form=USERS_FORM),
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

    @model_validator(mode="after")
    def _rules_name_what_is_asked(self) -> Self:
        for name, route in self.routes.items():
            asked = {name, *(alias for alias, model in self.aliases.items() if model == name)}
            for number, rule in enumerate(route.rules, 1):
                if strange := sorted({*(rule.when.models or ())} - asked):
                    raise PydanticCustomError(
                        "route_rule",
                        "rule {number} of route {route} is for {name}, which is no name of it",
                        {"number": number, "route": name, "name": strange[0]},
                    )
        return self
