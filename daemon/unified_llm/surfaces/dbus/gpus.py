"""The objects of the GPUs, which come and go with their drivers' answers."""

from unified_llm.bus.exporter import Exporter
from unified_llm.bus.names import GPU_INTERFACE, gpu_path
from unified_llm.bus.objects import ExportedInterface, ExportedObject
from unified_llm.operations.devices import Devices
from unified_llm.surfaces.dbus import contract, views


class GpuObjects:
    """Keeps what is exported in step with what was read last."""

    def __init__(self, devices: Devices, exporter: Exporter) -> None:
        self._devices = devices
        self._exporter = exporter
        self._exported: set[int] = set()

    def refresh(self) -> None:
        """Export those that have come, take away those that have gone, and tell what changed."""
        gpus = {gpu.number: gpu for gpu in self._devices.gpus}
        for number in self._exported - gpus.keys():
            self._exporter.unexport(gpu_path(number))
        for number, gpu in gpus.items():
            if number in self._exported:
                self._exporter.set_properties(
                    gpu_path(number), GPU_INTERFACE, views.gpu_changes(gpu)
                )
            else:
                found = ExportedInterface(contract.GPU, {}, views.gpu_properties(gpu))
                self._exporter.export(gpu_path(number), ExportedObject((found,)))
        self._exported = set(gpus)
