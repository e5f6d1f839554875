import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fleet.specs import spec_of
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.fleet.model_file import open_model_file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF and so on")
    return path


async def test_the_checked_file_is_opened_and_closed(model: Path) -> None:
    async with open_model_file(spec_of(model)) as file:
        assert os.pread(file.descriptors[0], 4, 0) == b"GGUF"
        assert file.paths_in_worker == (f"/proc/self/fd/{file.descriptors[0]}",)
        assert not os.get_inheritable(file.descriptors[0])


async def test_a_link_to_the_checked_file_is_followed(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(model)
    spec = spec_of(model)
    async with open_model_file(replace(spec, path=link)) as file:
        assert os.pread(file.descriptors[0], 4, 0) == b"GGUF"


async def test_a_file_put_in_its_place_is_refused(model: Path, tmp_path: Path) -> None:
    spec = spec_of(model)
    other = tmp_path / "other"
    other.write_bytes(b"GGUF and so on")
    other.replace(model)
    with pytest.raises(ModelFailedToLoad, match="not the one that was checked"):
        async with open_model_file(spec):
            pass


async def test_writing_to_the_open_file_is_noticed(model: Path) -> None:
    async with open_model_file(spec_of(model)) as file:
        file.ensure_unchanged()
        model.write_bytes(b"GGUF and more of it")
        with pytest.raises(ModelFailedToLoad, match="Scan for models again"):
            file.ensure_unchanged()


async def test_a_pipe_put_in_its_place_does_not_block(model: Path) -> None:
    spec = spec_of(model)
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(ModelFailedToLoad):
        async with open_model_file(spec):
            pass


async def test_a_vanished_file_says_so(model: Path) -> None:
    spec = spec_of(model)
    model.unlink()
    with pytest.raises(ModelFailedToLoad, match="No such file"):
        async with open_model_file(spec):
            pass


async def test_a_defect_of_the_catalogue_is_told(model: Path) -> None:
    spec = replace(spec_of(model), identity=None, defect="its tensors reach beyond its end")
    with pytest.raises(ModelFailedToLoad, match="its tensors reach beyond its end"):
        async with open_model_file(spec):
            pass
