"""The section `socket`."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from unified_llm.domain.units import Bytes, Seconds
from unified_llm.settings.sections.fields import KIB, MIB, AbsolutePath, Deadline, Section, about

# sun_path holds 108 bytes with its terminating NUL (unix(7)).
MAX_SOCKET_PATH_BYTES = 107


def _require_fitting_socket(path: Path) -> Path:
    size = len(str(path).encode())
    if size > MAX_SOCKET_PATH_BYTES:
        raise PydanticCustomError(
            "long_socket_path",
            "the path has {size} bytes, and the kernel allows {limit} for a socket",
            {"size": size, "limit": MAX_SOCKET_PATH_BYTES},
        )
    return path


SocketPath = Annotated[AbsolutePath, AfterValidator(_require_fitting_socket)]
Connections = Annotated[int, Field(ge=1, le=65_536)]


class SocketSettings(Section):
    """The Unix socket that speaks the OpenAI API.

    When systemd hands the socket over, path, mode and group are those of its unit.
    """

    path: SocketPath = Field(
        default=Path("/run/unified-llm/api.sock"),
        description="Where the socket is.",
        json_schema_extra=about(reason="the runtime directory of the service"),
    )
    mode: str = Field(
        default="0660",
        pattern="^0[0-7]{3}$",
        description="Permissions of the socket.",
        json_schema_extra=about(
            reason="the owner and the group; nobody else",
            form='four octal digits in quotes, such as "0660"',
        ),
    )
    group: Annotated[str, Field(min_length=1, max_length=32)] | None = Field(
        default="unified-llm",
        description="Group the socket is given to; null to leave it as created.",
        json_schema_extra=about(reason="its members may use the models"),
    )
    max_body_bytes: Annotated[Bytes, Field(ge=KIB, le=256 * MIB)] = Field(
        default=Bytes(8 * MIB),
        description="Largest body of a request.",
        json_schema_extra=about("bytes", "a million tokens of text with room to spare"),
    )
    max_connections: Connections = Field(
        default=1024,
        description="Connections open at the same time.",
        json_schema_extra=about("connections", "each costs a descriptor and some buffers"),
    )
    max_connections_per_user: Connections = Field(
        default=64,
        description="Connections one user may have open at the same time.",
        json_schema_extra=about("connections", "one user cannot shut the others out"),
    )
    head_seconds: Deadline = Field(
        default=Seconds(10),
        description="Time a client gets to send the head of a request.",
        json_schema_extra=about("seconds", "local clients need milliseconds"),
    )
    body_seconds: Deadline = Field(
        default=Seconds(30),
        description="Time a client gets to send the body of a request.",
        json_schema_extra=about("seconds", "local clients need milliseconds; pipes may wait"),
    )
    idle_seconds: Deadline = Field(
        default=Seconds(60),
        description="Time a connection may stay open without a request.",
        json_schema_extra=about("seconds", "longer than the pools of common clients keep one"),
    )
    write_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest time a client may leave an answer unread.",
        json_schema_extra=about("seconds", "a reader so slow holds a slot from others"),
    )
