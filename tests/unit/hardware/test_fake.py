"""Devices that a file describes."""

import json
from pathlib import Path

import pytest

from unified_llm.hardware.fake import FakeDriver
from unified_llm.hardware.probe import ReadingFailedError

DEVICE = {"id": "fake:0", "name": "Fake", "total_bytes": 8, "foreign_bytes": 1}


def driver(folder: Path, **more: object) -> FakeDriver:
    file = folder / "devices.json"
    file.write_text(json.dumps({"devices": [DEVICE | more]}))
    return FakeDriver(file, dict)


def test_what_the_file_does_not_tell_of_a_device_is_unknown(tmp_path: Path) -> None:
    (device,) = driver(tmp_path).read()
    assert (device.uuid, device.temperature) == (None, None)


def test_the_file_may_tell_uuid_and_temperature(tmp_path: Path) -> None:
    (device,) = driver(tmp_path, uuid="FAKE-1", temperature=61.7).read()
    assert (device.uuid, device.temperature) == ("FAKE-1", 62)


def test_a_temperature_that_is_no_number_fails_the_reading(tmp_path: Path) -> None:
    with pytest.raises(ReadingFailedError, match="does not describe devices"):
        driver(tmp_path, temperature="hot").read()
