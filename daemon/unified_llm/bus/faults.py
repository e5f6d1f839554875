"""Errors of ours as D-Bus error names, and back.

Standard names where the specification has one, `org.unifiedllm1.Error.*` elsewhere. The text of an
error must stand alone: busctl shows it and not the name.
"""

import logging
import re
import secrets
from collections.abc import Callable
from typing import Final

from unified_llm.bus.names import DBUS_ERROR_PREFIX, ERROR_PREFIX
from unified_llm.domain import errors

log = logging.getLogger(__name__)

ACCESS_DENIED: Final = f"{DBUS_ERROR_PREFIX}AccessDenied"
ADDRESS_IN_USE: Final = f"{DBUS_ERROR_PREFIX}AddressInUse"
DISCONNECTED: Final = f"{DBUS_ERROR_PREFIX}Disconnected"
INVALID_ARGS: Final = f"{DBUS_ERROR_PREFIX}InvalidArgs"
INVALID_SIGNATURE: Final = f"{DBUS_ERROR_PREFIX}InvalidSignature"
LIMITS_EXCEEDED: Final = f"{DBUS_ERROR_PREFIX}LimitsExceeded"
NO_REPLY: Final = f"{DBUS_ERROR_PREFIX}NoReply"
PROPERTY_READ_ONLY: Final = f"{DBUS_ERROR_PREFIX}PropertyReadOnly"
UNKNOWN_INTERFACE: Final = f"{DBUS_ERROR_PREFIX}UnknownInterface"
UNKNOWN_METHOD: Final = f"{DBUS_ERROR_PREFIX}UnknownMethod"
UNKNOWN_OBJECT: Final = f"{DBUS_ERROR_PREFIX}UnknownObject"
UNKNOWN_PROPERTY: Final = f"{DBUS_ERROR_PREFIX}UnknownProperty"
INTERACTIVE_AUTHORIZATION_REQUIRED: Final = f"{DBUS_ERROR_PREFIX}InteractiveAuthorizationRequired"
AUTHORIZATION_DISMISSED: Final = f"{ERROR_PREFIX}AuthorizationDismissed"

NAMES: Final[dict[type[errors.UnifiedLlmError], str]] = {
    errors.UnknownModel: f"{ERROR_PREFIX}NoSuchModel",
    errors.UnknownObject: f"{ERROR_PREFIX}NoSuchJob",
    errors.InvalidRequest: INVALID_ARGS,
    errors.NotPermitted: ACCESS_DENIED,
    errors.AuthenticationRequired: INTERACTIVE_AUTHORIZATION_REQUIRED,
    errors.AuthenticationDismissed: AUTHORIZATION_DISMISSED,
    errors.RateLimited: f"{ERROR_PREFIX}QuotaExceeded",
    errors.TooLarge: LIMITS_EXCEEDED,
    errors.Quarantined: f"{ERROR_PREFIX}Quarantined",
    errors.Cancelled: f"{ERROR_PREFIX}Cancelled",
    errors.ModelInUse: f"{ERROR_PREFIX}ModelBusy",
    errors.NoRoom: f"{ERROR_PREFIX}InsufficientMemory",
    errors.GpuUnusable: f"{ERROR_PREFIX}GpuUnusable",
    errors.QueueFull: f"{ERROR_PREFIX}QueueFull",
    errors.ModelFailedToLoad: f"{ERROR_PREFIX}LoadFailed",
    errors.WorkerDied: f"{ERROR_PREFIX}BackendFailed",
    errors.ProviderDown: f"{ERROR_PREFIX}BackendUnavailable",
    errors.ProviderFailed: f"{ERROR_PREFIX}ProviderFailed",
    errors.ProviderOverloaded: f"{ERROR_PREFIX}ProviderOverloaded",
    errors.ProviderDenied: f"{ERROR_PREFIX}ProviderDenied",
    errors.ProviderRefused: f"{ERROR_PREFIX}ProviderRefused",
    errors.ContentFiltered: f"{ERROR_PREFIX}ContentFiltered",
    errors.RequestTimedOut: f"{DBUS_ERROR_PREFIX}TimedOut",
    errors.Draining: f"{ERROR_PREFIX}Draining",
    errors.Inhibited: f"{ERROR_PREFIX}Inhibited",
    errors.Closing: f"{ERROR_PREFIX}Closing",
    errors.BudgetSpent: f"{ERROR_PREFIX}BudgetSpent",
    errors.LocalOnly: f"{ERROR_PREFIX}LocalOnly",
    errors.AuditUnavailable: f"{ERROR_PREFIX}AuditUnavailable",
    errors.StoreUnavailable: f"{ERROR_PREFIX}StoreUnavailable",
    errors.DiskFull: f"{ERROR_PREFIX}InsufficientDisk",
    errors.ConfigurationError: f"{ERROR_PREFIX}InvalidConfiguration",
    errors.InternalError: f"{ERROR_PREFIX}Internal",
}
"""Every class that can be raised, with the name it goes out under."""

# Names that others, or other versions of us, give to what we know under one word.
_ALSO: Final[dict[str, type[errors.UnifiedLlmError]]] = {
    UNKNOWN_OBJECT: errors.UnknownObject,
    NO_REPLY: errors.RequestTimedOut,
}
_CLASSES: Final = {name: error for error, name in NAMES.items()} | _ALSO
_INCIDENT: Final = re.compile(r"Internal error ([0-9a-f]+)\.")


class BusFault(Exception):
    """An error reply, or the reason why there is none.

    name: the D-Bus error name. text: the message that came with it.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text} ({name})")
        self.name = name
        self.text = text


class NameTaken(BusFault):
    """Another process owns the bus name we asked for."""


def describe(error: errors.UnifiedLlmError | BusFault) -> tuple[str, str]:
    """The D-Bus error name and text under which `error` goes out."""
    if isinstance(error, BusFault):
        return error.name, error.text
    return NAMES[type(error)], str(error)


def parse_fault(fault: BusFault) -> errors.UnifiedLlmError | BusFault:
    """What a reply of the daemon means in the domain's words; `fault` itself if it has none."""
    error = _CLASSES.get(fault.name)
    if error is None:
        return fault
    if issubclass(error, errors.InternalError):
        found = _INCIDENT.search(fault.text)
        return errors.InternalError(found[1] if found else "unknown")
    if issubclass(error, errors.ConfigurationError):
        return errors.ConfigurationError("daemon", (errors.Problem("", None, fault.text),))
    return error(fault.text)


def new_incident() -> str:
    """An id to find a log line by."""
    return secrets.token_hex(4)


def internal_fault(
    where: str, error: Exception, *, incident: Callable[[], str] = new_incident
) -> errors.InternalError:
    """Log `error` once, with its trace, and return what the caller may see of it."""
    fault = errors.InternalError(incident())
    log.error("Incident %s in %s", fault.incident, where, exc_info=error)
    return fault
