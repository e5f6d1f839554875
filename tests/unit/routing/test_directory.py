"""One namespace: every model has one backend."""

from pathlib import Path

import pytest

from tests.fakes.backend import FakeBackend
from tests.unit.fleet.specs import spec_of
from unified_llm.domain.errors import ProviderDenied
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.routing.candidates import LOCAL
from unified_llm.routing.directory import Directory

REMOTE = RemoteModel(ModelId("far/model"), "far", ProviderKind.OPENAI, "model")


def test_each_model_has_the_backend_of_its_place(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.touch()
    here, far = FakeBackend(), FakeBackend()
    directory = Directory(here, {"far": far})
    local, remote = directory.name_of(spec_of(file)), directory.name_of(REMOTE)
    assert (local, directory.backend(local)) == (LOCAL, here)
    assert (remote, directory.backend(remote)) == ("far", far)


def test_a_provider_that_is_off_says_so() -> None:
    with pytest.raises(ProviderDenied, match="far is off"):
        Directory(FakeBackend(), {}).backend("far")
