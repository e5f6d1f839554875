"""Graphics cards from the kernel's files, written from its documentation."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.devices import ProcessMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.amdgpu import AmdgpuDriver
from unified_llm.hardware.drm import Card, read_users
from unified_llm.hardware.intel import IntelDriver
from unified_llm.hardware.probe import ProbeOutcome

CAPTURED = Path(__file__).parents[2] / "captured"
MIB = 1024**2


def amdgpu() -> AmdgpuDriver:
    return AmdgpuDriver(CAPTURED / "amdgpu" / "sys", CAPTURED / "amdgpu" / "proc")


def intel(name: str) -> IntelDriver:
    return IntelDriver(name, CAPTURED / name / "sys", CAPTURED / name / "proc")


def test_cards_come_by_address_and_connectors_are_no_cards() -> None:
    assert [device.id for device in amdgpu().read()] == [
        "amdgpu:0000:03:00.0",
        "amdgpu:0000:0b:00.0",
    ]


def test_memory_and_name_are_the_drivers() -> None:
    small, large = amdgpu().read()
    assert (large.total, large.used) == (17_163_091_968, 2_516_582_400)
    assert large.name == "Navi 48 test board"
    assert small.name == "AMD GPU"


def test_a_client_seen_twice_counts_once_and_older_names_count_too() -> None:
    _, large = amdgpu().read()
    assert large.processes == (
        ProcessMemory(77, Bytes(512 * MIB)),
        ProcessMemory(4242, Bytes(1537 * MIB)),
    )


def test_a_card_nobody_is_seen_to_use_is_unknown() -> None:
    small, _ = amdgpu().read()
    assert small.processes is None


def test_intel_tells_who_but_not_how_much_there_is() -> None:
    (device,) = intel("xe").read()
    assert (device.total, device.used, device.free) == (None, None, None)
    assert device.processes == (ProcessMemory(500, Bytes(23_992 * 1024)),)


def test_i915_calls_its_memory_local() -> None:
    (device,) = intel("i915").read()
    assert device.processes == (ProcessMemory(600, Bytes(256 * MIB)),)


def test_the_chip_and_not_another_sensor_gives_the_temperature() -> None:
    small, large = amdgpu().read()
    assert (small.temperature, large.temperature) == (None, 47)
    (xe,), (i915,) = intel("xe").read(), intel("i915").read()
    assert (xe.temperature, i915.temperature) == (52, -4)


def test_a_card_that_sleeps_is_not_woken_for_its_temperature(tmp_path: Path) -> None:
    (tmp_path / "hwmon" / "hwmon3").mkdir(parents=True)
    (tmp_path / "hwmon" / "hwmon3" / "temp1_input").write_text("31000\n")
    (tmp_path / "power").mkdir()
    card = Card("0000:01:00.0", tmp_path)
    (tmp_path / "power" / "runtime_status").write_text("active\n")
    assert card.temperature(1) == 31
    (tmp_path / "power" / "runtime_status").write_text("suspended\n")
    assert card.temperature(1) is None


def test_only_a_card_that_has_a_unique_id_tells_one() -> None:
    small, large = amdgpu().read()
    assert (small.uuid, large.uuid) == (None, "9a3c5e7f10b2d4e6")


def test_a_module_without_a_card_is_not_yet_and_no_module_is_absent(tmp_path: Path) -> None:
    (tmp_path / "module" / "amdgpu").mkdir(parents=True)
    assert AmdgpuDriver(tmp_path, tmp_path).probe() is ProbeOutcome.NOT_YET
    assert IntelDriver("xe", tmp_path, tmp_path).probe() is ProbeOutcome.ABSENT


def test_a_missing_attribute_is_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "drm" / "card0" / "device"
    folder.mkdir(parents=True)
    (folder / "uevent").write_text("DRIVER=amdgpu\nPCI_SLOT_NAME=0000:01:00.0\n")
    (folder / "mem_info_vram_total").write_text("garbage\n")
    (folder / "hwmon" / "hwmon0").mkdir(parents=True)
    (folder / "hwmon" / "hwmon0" / "temp1_input").write_text("garbage\n")
    (device,) = AmdgpuDriver(tmp_path, tmp_path).read()
    assert (device.total, device.used, device.temperature) == (None, None, None)


@given(text=st.text(max_size=200))
def test_whatever_stands_in_fdinfo_is_read_without_a_surprise(text: str) -> None:
    with TemporaryDirectory() as name:
        process = Path(name) / "1"
        (process / "fd").mkdir(parents=True)
        (process / "fdinfo").mkdir()
        (process / "fd" / "3").symlink_to("/dev/dri/card0")
        head = "drm-pdev: 0000:01:00.0\ndrm-client-id: 1\ndrm-resident-vram: "
        (process / "fdinfo" / "3").write_bytes((head + text).encode(errors="surrogatepass"))
        found = read_users(Path(name), Card("0000:01:00.0", Path(name)), "vram")
        assert found is None or all(process.used >= 0 for process in found)
