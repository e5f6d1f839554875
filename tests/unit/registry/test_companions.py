"""Adapters as their files are now."""

import os
from pathlib import Path

import pytest

from tests.encoder_models import write_tiny_encoder
from tests.lora import TINY, lora_file, write_lora
from tests.mmproj import write_mmproj
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.models import Adapter
from unified_llm.gguf.header import ModelHeader
from unified_llm.registry.companions import inspect_adapters, inspect_projector
from unified_llm.registry.files import ModelFiles
from unified_llm.settings.sections.models import AdapterSettings


@pytest.fixture
def base(tmp_path: Path) -> ModelHeader:
    header = ModelFiles().inspect(write_tiny_gguf(tmp_path / "tiny.gguf")).header
    assert header is not None
    return header


def inspect(path: Path, base: ModelHeader | None) -> Adapter:
    (found,) = inspect_adapters({"law": AdapterSettings(path=path, scale=0.5)}, base)
    return found


def test_a_sound_adapter_is_described(tmp_path: Path, base: ModelHeader) -> None:
    path = write_lora(tmp_path / "law.gguf")
    found = inspect(path, base)
    assert (found.name, found.path, found.scale, found.defect) == ("law", path, 0.5, None)
    assert found.identity is not None
    assert found.identity.inode == path.stat().st_ino
    assert found.size_bytes == sum(4 * 4 * (width + height) for width, height in TINY.values())


def test_what_is_wrong_is_a_defect(tmp_path: Path, base: ModelHeader) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(lora_file(TINY, architecture="qwen2").packed())
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    defects = {
        wrong: "It is for the architecture 'qwen2'; the model's is llama.",
        fifo: "It is not a regular file.",
        tmp_path / "missing": "There is no such file.",
        tmp_path: "It is not a regular file.",
        tmp_path / "tiny.gguf": "It is of type None, which is not an adapter.",
    }
    for path, defect in defects.items():
        found = inspect(path, base)
        assert (found.identity, found.defect, found.size_bytes) == (None, defect, 0)


def test_only_models_that_answer_in_text_take_adapters(tmp_path: Path) -> None:
    path = write_lora(tmp_path / "law.gguf")
    encoder = ModelFiles().inspect(write_tiny_encoder(tmp_path / "encoder.gguf")).header
    assert "answer in text take it" in (inspect(path, encoder).defect or "")
    assert "can not be loaded" in (inspect(path, None).defect or "")


def test_a_projector_is_described_or_has_a_defect(tmp_path: Path, base: ModelHeader) -> None:
    path = write_mmproj(tmp_path / "mmproj.gguf")
    found = inspect_projector(path, base)
    assert (found.path, found.defect) == (path, None)
    assert found.identity is not None
    assert 0 < found.size_bytes < path.stat().st_size
    lora = inspect_projector(write_lora(tmp_path / "law.gguf"), base)
    assert (lora.identity, lora.size_bytes) == (None, 0)
    assert "no projector" in (lora.defect or "")
    missing = inspect_projector(tmp_path / "missing", base)
    assert missing.defect == "There is no such file."
    assert "can not be loaded" in (inspect_projector(path, None).defect or "")
