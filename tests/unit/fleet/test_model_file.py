import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fleet.specs import spec_of
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.models import Adapter, Projector
from unified_llm.fleet.model_file import open_model_file
from unified_llm.worker.protocol import AdapterFile


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF and so on")
    return path


async def test_the_checked_file_is_opened_and_closed(model: Path) -> None:
    async with open_model_file(spec_of(model)) as file:
        assert os.pread(file.descriptors[0], 4, 0) == b"GGUF"
        assert file.paths_in_worker == (f"/proc/self/fd/{file.descriptors[0]}",)
        assert (file.adapters_in_worker, file.projector_in_worker) == ((), None)
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


async def test_adapters_are_opened_with_their_model_and_watched_as_closely(
    model: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("law.gguf", "bad.gguf", "poetry.gguf")]
    for path in paths:
        path.write_bytes(path.name.encode())
    law, bad, poetry = (
        Adapter(path.stem, path, 0.5, spec_of(path).identity, None) for path in paths
    )
    eyes = tmp_path / "eyes.gguf"
    eyes.write_bytes(b"eyes")
    spec = replace(
        spec_of(model),
        adapters=(law, replace(bad, defect="It is broken."), poetry),
        projector=Projector(eyes, spec_of(eyes).identity, None),
    )
    async with open_model_file(spec) as file:
        found = [os.pread(each, 3, 0) for each in file.descriptors]
        assert found == [b"GGU", b"law", b"poe", b"eye"]
        assert file.projector_in_worker == f"/proc/self/fd/{file.descriptors[3]}"
        assert file.paths_in_worker == (f"/proc/self/fd/{file.descriptors[0]}",)
        assert file.adapters_in_worker == tuple(
            AdapterFile(name=name, path=f"/proc/self/fd/{each}", scale=0.5)
            for name, each in zip(("law", "poetry"), file.descriptors[1:3], strict=True)
        )
        paths[2].write_bytes(b"another one")
        with pytest.raises(ModelFailedToLoad, match="not the one that was checked"):
            file.ensure_unchanged()
