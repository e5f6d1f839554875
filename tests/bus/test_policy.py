"""The shipped policy and activation files: by reading them, and by trying what they forbid."""

import configparser
import xml.etree.ElementTree as ET

import pytest

from tests.bus.probe import open_probe
from tests.private_bus import SHIPPED_POLICY, PrivateBus, effective_user, private_bus
from unified_llm.bus import faults
from unified_llm.bus.connection import open_connection
from unified_llm.bus.names import (
    BUS_NAME,
    GPU_INTERFACE,
    JOB_INTERFACE,
    LEASE_INTERFACE,
    MANAGER_INTERFACE,
    MODEL_INTERFACE,
    ROOT_PATH,
)

ACTIVATION = SHIPPED_POLICY.with_suffix(".service")


def _rules() -> list[ET.Element]:
    return [rule for policy in ET.parse(SHIPPED_POLICY).getroot() for rule in policy]


def test_every_rule_names_us_so_that_none_opens_another_service() -> None:
    for rule in _rules():
        assert rule.tag == "allow"
        (name,) = {rule.get("own"), rule.get("send_destination")} - {None}
        assert name == BUS_NAME
        assert set(rule.attrib) <= {"own", "send_destination", "send_interface"}


def test_only_our_user_may_own_the_name() -> None:
    owners = [
        policy.attrib
        for policy in ET.parse(SHIPPED_POLICY).getroot()
        if any(rule.get("own") for rule in policy)
    ]
    assert owners == [{"user": "unified-llm"}]


def test_everybody_may_call_our_interfaces_and_the_standard_ones() -> None:
    (everybody,) = [
        policy
        for policy in ET.parse(SHIPPED_POLICY).getroot()
        if policy.get("context") == "default"
    ]
    assert {rule.get("send_interface") for rule in everybody} == {
        MANAGER_INTERFACE,
        MODEL_INTERFACE,
        GPU_INTERFACE,
        JOB_INTERFACE,
        LEASE_INTERFACE,
        *(
            f"org.freedesktop.DBus.{name}"
            for name in ("Introspectable", "ObjectManager", "Peer", "Properties")
        ),
    }


def test_the_bus_leaves_starting_us_to_systemd() -> None:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ACTIVATION)
    assert dict(parser["D-BUS Service"]) == {
        "Name": BUS_NAME,
        "Exec": "/bin/false",
        "User": "root",
        "SystemdService": "unified-llm.service",
    }


@pytest.mark.system
async def test_strangers_reach_listed_interfaces_and_no_others(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address):
        with effective_user("nobody"):
            connecting = open_connection(shared_bus.address)
            client = await connecting.__aenter__()
        try:
            assert await client.call(BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "Echo", "s", "x") == (
                "x",
            )
            for interface in ("org.unifiedllm1.Secret", "org.freedesktop.LogControl1"):
                with pytest.raises(faults.BusFault) as caught:
                    await client.call(BUS_NAME, ROOT_PATH, interface, "Echo", "s", "x")
                assert caught.value.name == faults.ACCESS_DENIED
        finally:
            await connecting.__aexit__(None, None, None)


@pytest.mark.system
async def test_a_stranger_cannot_take_the_name(shared_bus: PrivateBus) -> None:
    with effective_user("nobody"):
        connecting = open_connection(shared_bus.address)
        client = await connecting.__aenter__()
    try:
        with pytest.raises(faults.BusFault) as caught:
            await client.request_name(BUS_NAME)
        assert caught.value.name == faults.ACCESS_DENIED
    finally:
        await connecting.__aexit__(None, None, None)


@pytest.mark.system
async def test_the_owner_need_not_be_root() -> None:
    with private_bus(owner="daemon") as bus:
        with effective_user("daemon"):
            serving = open_probe(bus.address)
            probe = await serving.__aenter__()
        try:
            await probe.bus.ping()
        finally:
            await serving.__aexit__(None, None, None)
