"""The section `providers`: model servers elsewhere, by name."""

import ipaddress
import re
from typing import Annotated, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from unified_llm.domain.models import MODEL_ID_PATTERN
from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import AbsolutePath, Deadline, Section, about

PROVIDER_PATTERN: Final = r"[a-z][a-z0-9-]{0,31}"
# What answers of this machine are said to come from; a provider of that name would be taken for it.
RESERVED_NAME: Final = "local"
MAX_MODELS: Final = 1000

DEFAULT_URLS: Final = {
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "deepseek": "https://api.deepseek.com",
    "anthropic": "https://api.anthropic.com/v1",
    "ollama": "http://127.0.0.1:11434",
}

_MODEL_FORM: Final = "list of model names"


def _ensure_url(text: str) -> str:
    """An address that holds no secret, and of which nothing is left out."""
    try:
        url = urlsplit(text)
        fault = _url_fault(url)
    except ValueError:
        fault = "is not an address"
    if fault is not None:
        raise PydanticCustomError("provider_url", "{fault}", {"fault": fault})
    return text.rstrip("/")


def _url_fault(url: SplitResult) -> str | None:
    if url.scheme not in {"http", "https"} or not url.hostname or url.port == 0:
        return "is not an address"
    if url.username is not None or url.password is not None:
        return "holds a user or password, which everybody who reads the settings would see"
    if url.query or url.fragment:
        return "has a query or fragment"
    return None


Url = Annotated[
    str,
    Field(min_length=1, max_length=2048, json_schema_extra={"pattern": "^https?://"}),
    AfterValidator(_ensure_url),
]
CredentialName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
_Name = Annotated[str, Field(pattern=f"^{MODEL_ID_PATTERN}$")]


class ProviderSettings(Section):
    """One model server. Its models are asked for as `<name>/<model>`."""

    kind: Literal[
        "openai", "openai-responses", "deepseek", "anthropic", "ollama", "openai-compatible"
    ] = Field(
        description=(
            "The API it speaks. `openai` is OpenAI's chat completions, `openai-responses` its "
            "newer API; `openai-compatible` is vLLM, TGI, llama-server, SGLang, another "
            "unified-llm and the like."
        ),
        json_schema_extra=about(),
    )
    url: Url | None = Field(
        default=None,
        description=(
            "Address below which its API is. `openai-compatible` has none of its own and needs "
            "this or `socket`."
        ),
        json_schema_extra=about(
            form="address such as https://host/v1", default="that of the provider"
        ),
    )
    socket: AbsolutePath | None = Field(
        default=None,
        description="Unix socket to connect to, instead of the host in `url`.",
        json_schema_extra=about(reason="most are on a network"),
    )
    key: CredentialName | None = Field(
        default=None,
        description=(
            "Name of the credential that holds its key: a file in `$CREDENTIALS_DIRECTORY`, which "
            "systemd fills. Never the key itself."
        ),
        json_schema_extra=about(
            reason="servers of one's own need none", form="name of a credential"
        ),
    )
    models: Annotated[tuple[_Name, ...], Field(strict=False, max_length=MAX_MODELS)] | None = Field(
        default=None,
        description="Its models that may be asked, by its names; null to ask it which it has.",
        json_schema_extra=about(reason="it knows best", form=_MODEL_FORM),
    )
    reasoning_summary: bool = Field(
        default=False,
        description=(
            "Have its models tell a summary of what they think; only `openai-responses` can ask "
            "for one."
        ),
        json_schema_extra=about(reason="models that do not think refuse to"),
    )
    proxy: Url | None = Field(
        default=None,
        description="HTTP proxy to reach it through. Environment variables name none.",
        json_schema_extra=about(reason="no proxy", form="address such as http://proxy:3128"),
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="Certificate authorities it is trusted by, in PEM; null for the system's.",
        json_schema_extra=about(reason="public providers have public certificates"),
    )
    connect_seconds: Deadline = Field(
        default=Seconds(5),
        description="Longest wait for a connection, TLS included.",
        json_schema_extra=about("seconds", "a server that is up answers in a fraction of it"),
    )
    first_event_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest wait for the first content of an answer.",
        json_schema_extra=about("seconds", "raise it for models that think without saying so"),
    )
    between_events_seconds: Deadline = Field(
        default=Seconds(60),
        description="Longest pause within an answer. Comments that keep it alive do not count.",
        json_schema_extra=about("seconds", "content comes many times per second"),
    )
    total_seconds: Deadline = Field(
        default=Seconds(600),
        description="Longest time of a whole answer.",
        json_schema_extra=about("seconds", "as long as the official clients wait"),
    )

    @property
    def address(self) -> str:
        """The URL in force."""
        if self.url is not None:
            return self.url
        return DEFAULT_URLS.get(self.kind, "http://localhost/v1")

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.url is None and self.socket is None and self.kind not in DEFAULT_URLS:
            raise PydanticCustomError("provider_place", "needs `url` or `socket`")
        return self

    @model_validator(mode="after")
    def _can_summarise(self) -> Self:
        if self.reasoning_summary and self.kind != "openai-responses":
            raise PydanticCustomError(
                "provider_summary", "can not ask for a reasoning_summary; `openai-responses` can"
            )
        return self

    @model_validator(mode="after")
    def _keeps_its_key(self) -> Self:
        if self.key is not None and self.socket is None and not _is_private(self.address):
            raise PydanticCustomError(
                "provider_key",
                "would send its key unencrypted; use https, or http to this machine only",
            )
        return self


def _is_private(address: str) -> bool:
    """Whether nobody on the way can read what is sent to `address`."""
    url = urlsplit(address)
    if url.scheme == "https" or url.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def _ensure_name(name: str) -> str:
    if name == RESERVED_NAME:
        raise PydanticCustomError("provider_name", "means this machine; choose another name")
    if not re.fullmatch(PROVIDER_PATTERN, name):
        raise PydanticCustomError(
            "provider_name",
            "is not the name of a provider: 1 to 32 characters of a-z 0-9 -, a letter first",
        )
    return name


# Not a pattern: pydantic would describe the entries by it, and not by `additionalProperties`.
ProvidersSettings = dict[Annotated[str, AfterValidator(_ensure_name)], ProviderSettings]
