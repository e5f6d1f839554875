"""The interface files, and what stands behind them."""

import pytest

from tests.fakes.house import TINY, USER, make_spec, open_house, verbs_of
from unified_llm.bus.interface import ChangeSignal, Interface
from unified_llm.bus.objects import ExportedInterface, variant_of
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState
from unified_llm.operations.jobs import Details, Job, JobType
from unified_llm.operations.models import ModelView
from unified_llm.surfaces.dbus import contract, views

# A removed or changed member breaks clients that exist; see the versioning rule in the reference.
INTERFACES = contract.INTERFACES
PROMISED = {
    contract.MANAGER.name: "CancelAll ExplainRoute Flush Generate GenerateText GetModel "
    "ImportModel Inhibit ListInhibitors ListJobs ListModels ListRoutes LoadModel "
    "OpenHttpConnection Reload RemoveModel ReserveVram ScanModels SwitchModel UnloadModel "
    "VerifyModel "
    "BudgetWarning JobNew JobRemoved PrepareForUnload "
    "ApiFeatures Degraded DelayInhibited GameMode HttpSocketPath LoadedModels "
    "NJobs OnBattery State Version VramPressure",
    contract.MODEL.name: "Load Remove Unload Verify "
    "Backend ContextTokens Format Id LastError LastUsed Leases "
    "LoadProgress LoadProgressValid MemoryBytes Sacrifices Sha256 SizeBytes State",
    contract.JOB.name: "Cancel Wait BytesDone BytesTotal Cancelable Error ExpectedEndTime Id "
    "Progress ProgressValid Rate Result StartTimestamp StartTimestampMonotonic "
    "StartedByUID State Target Type",
    contract.LEASE.name: "Release Wait Bytes Id State Who Why",
    contract.GPU.name: "Id Index Name ReadTimestampMonotonic Temperature Uuid VramFree "
    "VramManaged VramTotal VramUsed",
    contract.LOG_CONTROL.name: "LogLevel LogTarget SyslogIdentifier",
}


async def succeed(job: Job) -> Details:
    return {"memory_bytes": 7}


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda found: found.name)
def test_the_files_promise_what_they_always_did(interface: Interface) -> None:
    members = [
        *sorted(interface.methods),
        *sorted(interface.signals),
        *sorted(interface.properties),
    ]
    assert members == PROMISED[interface.name].split()


async def test_every_member_is_handled_and_none_more() -> None:
    async with open_house() as house:
        verbs = verbs_of(house)
        job = house.jobs.begin(JobType.LOAD, TINY, USER, succeed)
        view = ModelView(make_spec(TINY), ModelStatus(TINY, ModelState.READY))
        # ExportedInterface itself refuses a missing or surplus name.
        ExportedInterface(contract.MODEL, verbs.of_model(TINY), views.model_properties(view))
        ExportedInterface(contract.JOB, verbs.of_job(job), views.job_properties(job))
        assert verbs.of_manager().keys() == contract.MANAGER.methods.keys()


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda found: found.name)
def test_every_verb_on_a_model_ends_in_options(interface: Interface) -> None:
    for method in interface.methods.values():
        if method.name not in {"GetModel", "Cancel", "Wait", "Inhibit", "Release"}:
            assert method.inputs[-1].signature == "a{sv}", method.name
            assert method.inputs[-1].name == "options", method.name


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda found: found.name)
def test_nothing_can_be_written_but_the_log_level(interface: Interface) -> None:
    written = [found.name for found in interface.properties.values() if found.is_writable]
    assert written == (["LogLevel"] if interface is contract.LOG_CONTROL else [])


def test_what_changes_is_not_called_constant() -> None:
    status = views.status_properties(ModelStatus(TINY, ModelState.READY))
    for name in (*status, "SizeBytes"):
        assert contract.MODEL.properties[name].emits is not ChangeSignal.CONST


@pytest.mark.parametrize(
    "status",
    [
        ModelStatus(TINY, ModelState.AVAILABLE),
        ModelStatus(TINY, ModelState.LOADING, progress=0.123456),
        ModelStatus(TINY, ModelState.FAILED, last_error=("worker-died", "Signal 11.")),
    ],
    ids=lambda status: status.state.value,
)
def test_every_status_fits_the_types_of_the_files(status: ModelStatus) -> None:
    for name, value in views.status_properties(status).items():
        variant_of(contract.MODEL.properties[name], value)


def test_every_feature_is_explained() -> None:
    text = " ".join(contract.interface_file(contract.MANAGER.name).read_text().split())
    _, _, rest = text.partition("ApiFeatures: ")
    explained = rest.partition("Words are added")[0]
    for word in contract.API_FEATURES:
        assert f" {word}" in explained
