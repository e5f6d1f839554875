"""The names that are fixed on the bus, and model ids as object paths."""

import re
from typing import Final

from unified_llm.domain.models import ModelId

BUS_NAME: Final = "org.unifiedllm1"
ROOT_PATH: Final = "/org/unifiedllm1"
MANAGER_INTERFACE: Final = f"{BUS_NAME}.Manager"
MODEL_INTERFACE: Final = f"{BUS_NAME}.Model"
GPU_INTERFACE: Final = f"{BUS_NAME}.Gpu"
JOB_INTERFACE: Final = f"{BUS_NAME}.Job"
LEASE_INTERFACE: Final = f"{BUS_NAME}.Lease"
LOG_CONTROL_INTERFACE: Final = "org.freedesktop.LogControl1"
LOG_CONTROL_PATH: Final = "/org/freedesktop/LogControl1"
ERROR_PREFIX: Final = f"{BUS_NAME}.Error."

DBUS_NAME: Final = "org.freedesktop.DBus"
DBUS_PATH: Final = "/org/freedesktop/DBus"
DBUS_ERROR_PREFIX: Final = f"{DBUS_NAME}.Error."
PEER_INTERFACE: Final = f"{DBUS_NAME}.Peer"
PROPERTIES_INTERFACE: Final = f"{DBUS_NAME}.Properties"
INTROSPECTABLE_INTERFACE: Final = f"{DBUS_NAME}.Introspectable"
OBJECT_MANAGER_INTERFACE: Final = f"{DBUS_NAME}.ObjectManager"

_MODEL_PREFIX: Final = f"{ROOT_PATH}/model/"
_GPU_PREFIX: Final = f"{ROOT_PATH}/gpu/"
_JOB_PREFIX: Final = f"{ROOT_PATH}/job/_"
_LEASE_PREFIX: Final = f"{ROOT_PATH}/lease/_"
# `$` would also accept a newline before the end, and the bus drops whoever sends such a path.
_PATH: Final = re.compile(r"/|(/[A-Za-z0-9_]+)+")
_LABEL: Final = re.compile(r"_|([A-Za-z]|_[0-9a-f]{2})([A-Za-z0-9]|_[0-9a-f]{2})*")


def is_object_path(text: str) -> bool:
    """Whether `text` is an object path by the D-Bus specification."""
    return _PATH.fullmatch(text) is not None


def escape_label(text: str) -> str:
    """`text` as one element of an object path, as sd_bus_path_encode does it.

    Every byte outside A-Z a-z 0-9, and a leading digit, becomes _xx; the empty text becomes _.
    """
    if not text:
        return "_"
    return "".join(
        chr(byte) if _is_plain(byte, leading=index == 0) else f"_{byte:02x}"
        for index, byte in enumerate(text.encode())
    )


def unescape_label(label: str) -> str | None:
    """The text whose label this is; None if it is no label that `escape_label` writes."""
    if _LABEL.fullmatch(label) is None:
        return None
    if label == "_":
        return ""
    try:
        text = re.sub(
            rb"_([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), label.encode()
        ).decode()
    except UnicodeDecodeError:
        return None
    return text if escape_label(text) == label else None


def model_path(model: ModelId) -> str:
    """The object path of a model."""
    return _MODEL_PREFIX + escape_label(model)


def model_of_path(path: str) -> str | None:
    """The model id in an object path; None if the path is not that of a model."""
    if not path.startswith(_MODEL_PREFIX):
        return None
    return unescape_label(path.removeprefix(_MODEL_PREFIX))


def gpu_path(number: int) -> str:
    """The object path of a GPU."""
    return f"{_GPU_PREFIX}{number}"


def job_path(job: int) -> str:
    """The object path of a job."""
    return f"{_JOB_PREFIX}{job}"


def lease_path(lease: int) -> str:
    """The object path of a memory lease."""
    return f"{_LEASE_PREFIX}{lease}"


def _is_plain(byte: int, *, leading: bool) -> bool:
    character = chr(byte)
    if not character.isascii():
        return False
    return character.isalpha() or (character.isdigit() and not leading)
