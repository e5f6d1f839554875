"""Models in several files."""

from pathlib import Path

import pytest

from tests.split_gguf import split_gguf
from tests.tiny_gguf import write_tiny_gguf
from tests.unit.gguf.reading import header_of
from tests.unit.gguf.writing import BytesSource, Entry, ModelFile
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import BelongsToAModel, NotAModel
from unified_llm.gguf.splits import MAX_PARTS, Place, parse_part_name


def header_of_parts(*contents: bytes) -> ModelHeader:
    first, *others = [(BytesSource(content), len(content)) for content in contents]
    return read_header(*first, *others)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[bytes, ...]:
    whole = write_tiny_gguf(tmp_path / "tiny.gguf")
    return tuple(path.read_bytes() for path in split_gguf(whole, tmp_path, "tiny", 3))


def test_the_parts_are_the_model_that_was_split(parts: tuple[bytes, ...], tmp_path: Path) -> None:
    assert header_of_parts(*parts) == header_of((tmp_path / "tiny.gguf").read_bytes())


def test_parts_of_another_order_number_or_model_are_refused(parts: tuple[bytes, ...]) -> None:
    first, second, third = parts
    with pytest.raises(NotAModel, match="says it is part 3 of 3, and its name says it is 2 of 3"):
        header_of_parts(first, third, second)
    with pytest.raises(NotAModel, match="part 1 of 3, and its name says it is 1 of 2"):
        header_of_parts(first, second)
    with pytest.raises(NotAModel, match="number 1 of 3 parts of a split model, and its name"):
        header_of_parts(first)
    with pytest.raises(NotAModel, match="says it is part 1 of 0, and its name"):
        header_of_parts(first, second, ModelFile().packed())


def test_parts_that_lack_or_repeat_a_tensor_are_refused(tmp_path: Path) -> None:
    two = ModelFile().having(
        Entry("split.no", "u16", 0),
        Entry("split.count", "u16", 2),
        Entry("split.tensors.count", "i32", 6),
    )
    second = two.having(Entry("split.no", "u16", 1))
    with pytest.raises(NotAModel, match="3 tensors are in more than one part"):
        header_of_parts(two.packed(), second.packed())
    more = two.having(Entry("split.tensors.count", "i32", 7))
    with pytest.raises(NotAModel, match="have 6 tensors; the first announces 7"):
        header_of_parts(more.packed(), second.packed())
    cut = second.packed()[:-100]
    with pytest.raises(NotAModel, match="would end at byte"):
        header_of_parts(two.packed(), cut)


def test_companions_are_told_from_models_whatever_they_contain() -> None:
    kinds = {"mmproj": "projector", "adapter": "LoRA", "imatrix": "quantised"}
    for kind, what in kinds.items():
        with pytest.raises(BelongsToAModel, match=what):
            header_of(ModelFile().having(Entry("general.type", "string", kind)).packed())
    old = ModelFile().having(Entry("general.architecture", "string", "clip"))
    with pytest.raises(BelongsToAModel, match="projector"):
        header_of(old.packed())


def test_names_are_derived_and_bounded() -> None:
    found = parse_part_name("a-b-00002-of-00003.GGUF")
    assert found is not None
    assert (found.stem, found.place) == ("a-b", Place(1, 3))
    assert found.siblings()[0] == "a-b-00001-of-00003.gguf"
    assert len(found.siblings()) == 3
    for name in (
        "a.gguf",
        "-00001-of-00002.gguf",
        "a-00003-of-00002.gguf",
        "a-00000-of-00002.gguf",
        "a-00001-of-00001.gguf",
        f"a-00001-of-{MAX_PARTS + 1:05d}.gguf",
        "a-0001-of-0002.gguf",
        "a-00001-of-0000\u0662.gguf",
    ):
        assert parse_part_name(name) is None, name
