"""What the doors say of files that are no models."""

from pathlib import Path

from unified_llm.app.catalogue import MAX_COMPLAINTS, CatalogueKeeper
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.settings.load import parse_settings


class KeptSpecs:
    """Stands for operations.models.Models, which needs the whole house."""

    def __init__(self) -> None:
        self.specs: dict[ModelId, ModelSpec] = {}

    def replace_catalogue(self, specs: dict[ModelId, ModelSpec]) -> None:
        self.specs = specs


async def complaints_about(directory: Path) -> tuple[str, ...]:
    keeper = CatalogueKeeper(KeptSpecs())
    settings = parse_settings(f"models: {{directory: {directory}}}".encode(), source="test")
    await keeper.refresh(settings)
    return keeper.complaints


async def test_a_complaint_names_the_file_but_not_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bad\u202etxt.gguf").write_bytes(b"nothing")
    (complaint,) = await complaints_about(tmp_path)
    assert complaint.startswith("'")
    assert complaint.isprintable()
    assert str(tmp_path) not in complaint


async def test_a_directory_full_of_them_is_summed_up(tmp_path: Path) -> None:
    for number in range(MAX_COMPLAINTS + 5):
        (tmp_path / f"{number}.gguf").write_bytes(b"nothing")
    complaints = await complaints_about(tmp_path)
    assert len(complaints) == MAX_COMPLAINTS + 1
    assert complaints[-1] == "and 5 more files, see the log"
