"""The interface files we ship: the promise, served as they are."""

from pathlib import Path
from typing import Final

from unified_llm.bus.interface import Interface, load_interface
from unified_llm.bus.names import (
    GPU_INTERFACE,
    JOB_INTERFACE,
    LEASE_INTERFACE,
    LOG_CONTROL_INTERFACE,
    MANAGER_INTERFACE,
    MODEL_INTERFACE,
)

_FOLDER: Final = Path(__file__).parent / "interfaces"


def interface_file(name: str) -> Path:
    """The file that describes the interface `name`."""
    return _FOLDER / f"{name}.xml"


MANAGER: Final[Interface] = load_interface(interface_file(MANAGER_INTERFACE))
MODEL: Final[Interface] = load_interface(interface_file(MODEL_INTERFACE))
GPU: Final[Interface] = load_interface(interface_file(GPU_INTERFACE))
JOB: Final[Interface] = load_interface(interface_file(JOB_INTERFACE))
LEASE: Final[Interface] = load_interface(interface_file(LEASE_INTERFACE))
LOG_CONTROL: Final[Interface] = load_interface(interface_file(LOG_CONTROL_INTERFACE))

API_FEATURES: Final = (
    "generate", "http-connection", "import", "leases", "inhibitors", "gpus", "administration",
    "log-control", "prepare-for-unload", "routes", "budget-warnings",
)  # fmt: skip
"""The words of the property ApiFeatures; the interface file says what they stand for."""

INTERFACES: Final = (MANAGER, MODEL, JOB, LEASE, GPU, LOG_CONTROL)
"""Every interface with a file, in the order of the reference."""
