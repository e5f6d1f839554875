"""registry.catalogue, and through it scan and files."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lora import write_lora
from tests.mmproj import write_mmproj
from tests.real_models import smollm2
from tests.split_gguf import split_gguf
from tests.tiny_gguf import write_tiny_gguf
from tests.unit.gguf.writing import BytesSource, Entry, ModelFile
from unified_llm.domain.models import ModelId, ModelSpec, is_model_id
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.gguf.header import read_header
from unified_llm.planner.estimate import estimate_memory
from unified_llm.planner.run_shape import RunShape
from unified_llm.registry.catalogue import Catalogue, build_catalogue, scanned_id
from unified_llm.registry.files import FileNews, ModelFiles, file_key
from unified_llm.settings.schema import Settings


def named(basename: str, **more: int) -> bytes:
    """A right model file of this basename, trained with as much context as the defaults ask for."""
    values = {"context_length": 4096} | more
    entries = [Entry("general.basename", "string", basename)]
    entries += [Entry(f"llama.{key}", "u32", value) for key, value in values.items()]
    return ModelFile().without("general.size_label").having(*entries).packed()


def catalogue_of(
    directory: Path | None, *, files: ModelFiles | None = None, **models: dict[str, Any]
) -> Catalogue:
    where = None if directory is None else str(directory)
    asked = Settings.model_validate({"models": {"directory": where, **models}})
    return build_catalogue(asked, files or ModelFiles())


def messages(catalogue: Catalogue) -> list[tuple[str, str]]:
    return [(problem.path.name, problem.message) for problem in catalogue.problems]


def only(catalogue: Catalogue) -> ModelSpec:
    (spec,) = catalogue.models.values()
    return spec


def estimated(spec: ModelSpec, context: int, slots: int) -> Bytes:
    """What the planner says of it."""
    assert spec.profile is not None
    return estimate_memory(spec.profile, RunShape(Tokens(context), slots)).total


def test_a_configured_model_is_described(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(named("A"))
    catalogue = catalogue_of(
        None,
        tiny={"path": str(path), "context_tokens": 512, "slots": 2, "threads": 3, "pinned": True},
    )
    size = Bytes(path.stat().st_size)
    spec = only(catalogue)
    assert spec.identity is not None
    assert (spec.identity.inode, spec.identity.size_bytes) == (path.stat().st_ino, size)
    assert spec.identity.modified_ns == path.stat().st_mtime_ns
    assert spec == ModelSpec(
        id=ModelId("tiny"),
        path=path,
        identity=spec.identity,
        defect=None,
        size_bytes=size,
        architecture="llama",
        context_tokens=Tokens(512),
        slots=2,
        threads=3,
        keep_alive=Seconds(300),
        pinned=True,
        source="settings",
        profile=spec.profile,
    )
    assert catalogue.problems == ()


def test_a_scanned_model_is_named_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "whatever.gguf").write_bytes(named("Tiny Llama/Chat", context_length=8192))
    spec = only(catalogue_of(tmp_path))
    assert (spec.id, spec.source) == ("Tiny-Llama-Chat-F32", "scan")
    assert (spec.context_tokens, spec.slots, spec.pinned) == (4096, 4, False)


def test_sizes_of_one_family_are_models_of_their_own(tmp_path: Path) -> None:
    for size, basename in (("1B", "Llama-3.2"), ("3B", "Llama-3.2"), ("7b", "Zephyr-7B")):
        names = [("size_label", size), ("basename", basename)]
        entries = [Entry(f"general.{key}", "string", value) for key, value in names]
        (tmp_path / f"{size}.gguf").write_bytes(ModelFile().having(*entries).packed())
    catalogue = catalogue_of(tmp_path)
    assert list(catalogue.models) == ["Llama-3.2-1B-F32", "Llama-3.2-3B-F32", "Zephyr-7B-F32"]


@pytest.mark.parametrize("key", ["general.basename", "general.file_type"])
def test_without_a_name_in_the_header_the_file_names_it(tmp_path: Path, key: str) -> None:
    (tmp_path / "my model (1).gguf").write_bytes(ModelFile().without(key).packed())
    assert only(catalogue_of(tmp_path)).id == "my-model-1"


@pytest.mark.parametrize("stem", ["---", "ßß", "directory"])
def test_a_file_without_a_usable_name_is_reported(tmp_path: Path, stem: str) -> None:
    (tmp_path / f"{stem}.gguf").write_bytes(ModelFile().without("general.basename").packed())
    catalogue = catalogue_of(tmp_path)
    assert catalogue.models == {}
    assert "model id" in messages(catalogue)[0][1]


def test_the_real_model_is_named_and_estimated() -> None:
    path = smollm2()
    spec = only(catalogue_of(path.parent))
    assert spec.id == "smollm2-135M-Q4_1"
    # What llama.cpp prints for its buffers, and a worker that has loaded nothing.
    allocated = 92.10 + 360.00 + 17.51 + 0.75 + 64
    assert estimated(spec, 4096, 4) / 2**20 == pytest.approx(allocated, abs=2)


def test_a_configured_file_that_is_no_model_stays_with_its_defect(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGML" + bytes(100))
    catalogue = catalogue_of(None, a={"path": str(path)})
    spec = only(catalogue)
    assert (spec.identity, spec.architecture, spec.profile) == (None, None, None)
    assert spec.size_bytes == 104
    assert spec.defect == "The file begins with b'GGML'; a GGUF file begins with b'GGUF'."
    assert messages(catalogue) == [("a.gguf", f"a cannot be used. {spec.defect}")]


def test_a_configured_file_that_cannot_be_opened_stays_with_its_defect(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    catalogue = catalogue_of(
        None,
        missing={"path": str(tmp_path / "none.gguf")},
        fifo={"path": str(tmp_path / "fifo")},
        folder={"path": str(tmp_path)},
        device={"path": "/dev/zero"},
        loop={"path": str(tmp_path / "loop")},
    )
    assert {name: spec.defect for name, spec in catalogue.models.items()} == {
        "missing": "There is no such file.",
        "fifo": "It is not a regular file.",
        "folder": "It is not a regular file.",
        "device": "It is not a regular file.",
        "loop": "The file cannot be read: Too many levels of symbolic links.",
    }


def test_a_scanned_file_that_is_no_model_is_left_out_and_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(named("A")[:-1])
    (tmp_path / "good.gguf").write_bytes(named("B"))
    catalogue = catalogue_of(tmp_path)
    assert list(catalogue.models) == ["B-F32"]
    ((name, message),) = messages(catalogue)
    assert name == "bad.gguf"
    assert message.startswith("It is left out. Tensor b'blk.0.attn_q.weight' would end at byte ")


def test_of_two_scanned_models_with_one_id_the_first_path_keeps_it(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf", "c.gguf"):
        (tmp_path / name).write_bytes(named("Same"))
    catalogue = catalogue_of(tmp_path)
    assert only(catalogue).path == tmp_path / "a.gguf"
    assert [name for name, _ in messages(catalogue)] == ["b.gguf", "c.gguf"]
    assert f"the id Same-F32 belongs to {tmp_path / 'a.gguf'}" in messages(catalogue)[0][1]


def test_settings_win_over_the_scan(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "m.gguf"
    mine.parent.mkdir()
    mine.write_bytes(named("Mine"))
    scanned = tmp_path / "scanned"
    scanned.mkdir()
    (scanned / "s.gguf").write_bytes(named("Same"))
    entry: dict[str, Any] = {"Same-F32": {"path": str(mine)}}
    catalogue = catalogue_of(scanned, **entry)
    assert only(catalogue).path == mine
    assert [name for name, _ in messages(catalogue)] == ["s.gguf"]


def test_a_configured_file_is_not_found_a_second_time(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(named("A"))
    (tmp_path / "link.gguf").symlink_to(tmp_path / "a.gguf")
    catalogue = catalogue_of(tmp_path, mine={"path": str(tmp_path / "link.gguf")})
    assert list(catalogue.models) == ["mine"]
    assert catalogue.problems == ()


def test_the_scan_goes_four_levels_deep_and_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    for place in (
        "1.gguf", "a/2.GGUF", "a/b/3.gguf", "a/b/c/4.gguf", "a/b/c/d/5.gguf", ".hidden.gguf",
        ".cache/6.gguf", "7.gguf.part", "8.bin",
    ):  # fmt: skip
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(named(f"M{path.stem}"))
    catalogue = catalogue_of(tmp_path)
    assert list(catalogue.models) == ["M1-F32", "M2-F32", "M3-F32", "M4-F32"]
    assert catalogue.problems == ()


def test_links_in_the_directory_stay_inside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    (inside / "blobs").mkdir()
    outside.mkdir()
    (outside / "secret.gguf").write_bytes(named("Secret"))
    (inside / "blobs" / "0123").write_bytes(named("Blob"))
    (inside / "blob.gguf").symlink_to("blobs/0123")
    (inside / "again.gguf").symlink_to("blobs/0123")
    (inside / "out.gguf").symlink_to(outside / "secret.gguf")
    (inside / "folder").symlink_to(outside)
    (inside / "gone.gguf").symlink_to("gone")
    (inside / "loop.gguf").symlink_to("loop.gguf")
    catalogue = catalogue_of(inside)
    assert [spec.path.name for spec in catalogue.models.values()] == ["again.gguf"]
    reported = dict(messages(catalogue))
    assert sorted(reported) == ["gone.gguf", "loop.gguf", "out.gguf"]
    assert "leads out of the directory" in reported["out.gguf"]


def test_a_name_that_cannot_be_written_down_is_reported(tmp_path: Path) -> None:
    (Path(os.fsencode(tmp_path).decode()) / "a\x1b[31m.gguf").write_bytes(named("A"))
    with open(os.fsencode(tmp_path) + b"/\xff.gguf", "wb") as file:
        file.write(named("B"))
    catalogue = catalogue_of(tmp_path)
    assert catalogue.models == {}
    assert len(catalogue.problems) == 2
    assert all(message.isprintable() for _, message in messages(catalogue))


def test_a_directory_that_is_not_there_is_a_problem_only_if_asked_for(tmp_path: Path) -> None:
    ((_, message),) = messages(catalogue_of(tmp_path / "none"))
    assert message == "The directory cannot be read: No such file or directory."
    default = Settings()
    assert default.models.directory is not None
    if not default.models.directory.exists():
        assert build_catalogue(default, ModelFiles()).problems == ()


def test_more_context_than_the_model_knows_is_capped_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(named("A", context_length=1024))
    catalogue = catalogue_of(None, a={"path": str(path), "context_tokens": 4096})
    spec = only(catalogue)
    assert spec.context_tokens == 1024
    assert "trained with 1024 tokens" in messages(catalogue)[0][1]


def test_the_same_files_give_the_same_catalogue(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.gguf").write_bytes(named(f"M{number % 4}"))
    first, second = catalogue_of(tmp_path), catalogue_of(tmp_path)
    assert (list(first.models.items()), first.problems) == (
        list(second.models.items()),
        second.problems,
    )


def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        reads.append(descriptor)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    path, files = tmp_path / "a.gguf", ModelFiles()
    path.write_bytes(named("A"))
    catalogue_of(tmp_path, files=files)
    assert reads
    reads.clear()
    assert list(catalogue_of(tmp_path, files=files).models) == ["A-F32"]
    assert not reads
    path.write_bytes(named("Bb"))
    assert list(catalogue_of(tmp_path, files=files).models) == ["Bb-F32"]
    assert reads
    files.take_news()
    path.unlink()
    catalogue_of(tmp_path, files=files)
    assert files.take_news() == FileNews({}, frozenset())
    assert not files._known


def test_a_file_written_to_under_its_old_date_is_read_again(tmp_path: Path) -> None:
    path, files = tmp_path / "a.gguf", ModelFiles()
    path.write_bytes(named("A"))
    before = path.stat()
    catalogue_of(tmp_path, files=files)
    path.write_bytes(named("B"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(catalogue_of(tmp_path, files=files).models) == ["B-F32"]


def test_news_are_what_was_read_and_what_was_seen(tmp_path: Path) -> None:
    first, second, files = tmp_path / "a.gguf", tmp_path / "b.gguf", ModelFiles()
    first.write_bytes(named("A"))
    catalogue_of(tmp_path, files=files)
    news = files.take_news()
    assert news.learned.keys() == news.seen == {file_key(first.stat())}
    second.write_bytes(b"no model")
    catalogue_of(tmp_path, files=files)
    news = files.take_news()
    assert news.seen == {file_key(first.stat()), file_key(second.stat())}
    (learned,) = news.learned.values()
    assert learned.header is None
    assert learned.defect


def test_a_file_that_changes_while_it_is_read_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(named("A"))
    pread = os.pread

    def meddling(descriptor: int, length: int, offset: int) -> bytes:
        os.utime(path, ns=(1, 1))
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", meddling)
    spec = only(catalogue_of(None, a={"path": str(path)}))
    assert spec.identity is None
    assert spec.defect == "The file changed while it was read."


def test_a_disk_that_fails_is_a_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(named("A"))

    def broken(descriptor: int, length: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    spec = only(catalogue_of(None, a={"path": str(tmp_path / "a.gguf")}))
    assert spec.defect == "The file cannot be read: Input/output error."


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_a_scanned_id_is_a_model_id_or_none(basename: str, stem: str) -> None:
    content = ModelFile().having(Entry("general.basename", "string", basename)).packed()
    found = scanned_id(read_header(BytesSource(content), len(content)), stem)
    assert found is None or (is_model_id(found) and "/" not in found)


@pytest.mark.parametrize("kind", ["mmproj", "adapter", "imatrix"])
def test_what_serves_only_with_a_model_is_noted_and_no_fault(tmp_path: Path, kind: str) -> None:
    content = ModelFile().having(Entry("general.type", "string", kind)).packed()
    (tmp_path / "a.gguf").write_bytes(content)
    files = ModelFiles()
    for catalogue in (catalogue_of(tmp_path, files=files), catalogue_of(tmp_path, files=files)):
        assert catalogue.models == {}
        (problem,) = catalogue.problems
        assert problem.message.startswith("It is left out. It is ")
        assert not problem.is_fault


def test_two_names_of_one_file_are_one_model(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(named("A"))
    (tmp_path / "b.gguf").hardlink_to(tmp_path / "a.gguf")
    (tmp_path / "c.gguf").symlink_to("a.gguf")
    catalogue = catalogue_of(tmp_path)
    assert only(catalogue).path == tmp_path / "a.gguf"
    assert [(p.path.name, p.message, p.is_fault) for p in catalogue.problems] == [
        ("b.gguf", "It is the same file as a.gguf.", False)
    ]


def test_texts_that_become_vectors_get_less_context_unless_asked_for(tmp_path: Path) -> None:
    entries = [Entry("llama.context_length", "u32", 8192), Entry("llama.pooling_type", "u32", 1)]
    path = tmp_path / "vectors.gguf"
    path.write_bytes(ModelFile().having(*entries).packed())
    usual = only(catalogue_of(None, vectors={"path": str(path)}))
    longer = only(catalogue_of(None, vectors={"path": str(path), "context_tokens": 8192}))
    assert (usual.context_tokens, longer.context_tokens) == (2048, 8192)


def test_a_split_model_is_one_model_with_all_its_parts(tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    models = tmp_path / "models"
    models.mkdir()
    paths = split_gguf(whole, models, "tiny", 3)
    catalogue = catalogue_of(models)
    spec = only(catalogue)
    assert [part.path for part in spec.parts] == list(paths)
    assert spec.size_bytes == sum(path.stat().st_size for path in paths)
    # The others are no faults, and no models.
    told = {problem.path: problem.is_fault for problem in catalogue.problems}
    assert told == dict.fromkeys(paths, False)
    assert only(catalogue_of(None, tiny={"path": str(paths[0])})).parts == spec.parts
    before = spec.identity
    os.utime(paths[2], ns=(0, 1))
    assert only(catalogue_of(models)).identity != before


def test_a_split_model_that_lacks_a_part_says_which(tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    models = tmp_path / "models"
    models.mkdir()
    first, second, third = split_gguf(whole, models, "tiny", 3)
    second.unlink()
    catalogue = catalogue_of(models)
    assert catalogue.models == {}
    assert (
        first.name,
        "It is left out. A part of it, 'tiny-00002-of-00003.gguf', is missing.",
    ) in (messages(catalogue))
    first.unlink()
    (problem,) = catalogue_of(models).problems
    assert (problem.path, problem.is_fault) == (third, True)
    assert "'tiny-00001-of-00003.gguf', is missing" in problem.message


def test_a_part_does_not_lead_out_of_the_scanned_directory(tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    models = tmp_path / "models"
    models.mkdir()
    _, second = split_gguf(whole, models, "tiny", 2)
    (tmp_path / "elsewhere").write_bytes(second.read_bytes())
    second.unlink()
    second.symlink_to(tmp_path / "elsewhere")
    catalogue = catalogue_of(models)
    assert catalogue.models == {}
    assert any("leads out of the directory" in message for _, message in messages(catalogue))


@pytest.mark.parametrize("kind", ["mmproj", "adapter", "imatrix"])
def test_a_companion_of_a_model_is_no_model_and_no_fault(tmp_path: Path, kind: str) -> None:
    content = ModelFile().having(Entry("general.type", "string", kind)).packed()
    (tmp_path / "beside.gguf").write_bytes(content)
    catalogue = catalogue_of(tmp_path)
    assert catalogue.models == {}
    assert [problem.is_fault for problem in catalogue.problems] == [False]


def test_a_model_has_the_adapters_that_are_allowed_for_it(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=4096)
    law = write_lora(tmp_path / "law.gguf")
    adapters = {"law": {"path": str(law), "scale": 0.5}, "gone": {"path": str(tmp_path / "gone")}}
    plain = only(catalogue_of(None, tiny={"path": str(model)}))
    catalogue = catalogue_of(None, tiny={"path": str(model), "adapters": adapters})
    spec = only(catalogue)
    assert [(each.name, each.scale, each.defect) for each in spec.adapters] == [
        ("law", 0.5, None),
        ("gone", 1.0, "There is no such file."),
    ]
    assert [each.name for each in spec.sound_adapters] == ["law"]
    assert messages(catalogue) == [("gone", "tiny:gone cannot be used. There is no such file.")]
    assert estimated(spec, 256, 1) - estimated(plain, 256, 1) == spec.beside_bytes > 0


def test_the_adapters_of_a_broken_model_are_not_complained_about_too(tmp_path: Path) -> None:
    adapters = {"law": {"path": str(tmp_path / "law")}}
    catalogue = catalogue_of(None, tiny={"path": str(tmp_path / "x"), "adapters": adapters})
    assert len(messages(catalogue)) == 1
    assert "can not be loaded" in (only(catalogue).adapters[0].defect or "")


def test_an_imported_file_does_not_take_the_name_of_an_adapter(tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    imported.mkdir()
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=4096)
    write_tiny_gguf(imported / "tiny:law.gguf")
    adapters = {"law": {"path": str(write_lora(tmp_path / "law.lora"))}}
    catalogue = catalogue_of(tmp_path, tiny={"path": str(model), "adapters": adapters})
    assert list(catalogue.models) == ["tiny"]
    assert messages(catalogue) == [
        ("tiny:law.gguf", "It is left out: tiny:law is an adapter of tiny in the settings.")
    ]


def test_a_model_sees_with_its_projector(tmp_path: Path) -> None:
    model = str(write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=4096))
    mmproj = str(write_mmproj(tmp_path / "mmproj.gguf"))
    blind = only(catalogue_of(None, tiny={"path": model}))
    seeing = only(catalogue_of(None, tiny={"path": model, "projector": mmproj}))
    assert (blind.sound_projector, seeing.sound_projector) == (None, seeing.projector)
    assert estimated(seeing, 256, 1) - estimated(blind, 256, 1) == seeing.beside_bytes > 0
    assert seeing.profile is not None
    assert "image" in seeing.profile.assumptions[-1]
    broken = catalogue_of(None, tiny={"path": model, "projector": model})
    assert only(broken).sound_projector is None
    assert only(broken).profile == blind.profile
    (problem,) = messages(broken)
    assert problem[1].startswith("tiny cannot see. It is of type None, and no projector")
