"""All models of this machine, from the settings and from the scanned directory."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from unified_llm.domain.models import (
    IMPORTED_FOLDER,
    FileIdentity,
    GpuUse,
    ModelId,
    ModelSpec,
    Speculation,
    adapted_id,
    imported_model_id,
    is_model_id,
)
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.gguf.header import ModelHeader
from unified_llm.gguf.splits import parse_part_name
from unified_llm.planner.adapters import with_adapters, with_projector
from unified_llm.planner.run_shape import makes_vectors
from unified_llm.registry.companions import inspect_adapters, inspect_projector
from unified_llm.registry.files import InspectedFile, ModelFiles
from unified_llm.registry.scan import CatalogueProblem, find_model_files
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.models import DefaultsSettings, ModelSettings

MAX_ID_CHARACTERS: Final = 128

# Of a text that becomes a vector, if nobody asks for more: each token of it takes a row as long as
# the vocabulary, a megabyte with the largest ones.
_DEFAULT_TEXT_TOKENS: Final = Tokens(2048)

_RESERVED: Final = frozenset({"directory"})
_OUTSIDE_IDS: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model by id, those of the settings first, and what their owner should know.

    folders: those that were searched.
    """

    models: dict[ModelId, ModelSpec]
    problems: tuple[CatalogueProblem, ...]
    folders: frozenset[Path]


def build_catalogue(settings: Settings, files: ModelFiles) -> Catalogue:
    """The catalogue as the files are now. Blocks on the disk; never raises for what it finds.

    The same settings and files give the same catalogue in the same order.
    """
    builder = _Builder(settings, files)
    for model, entry in settings.models.configured.items():
        builder.add_configured(model, entry)
    if settings.models.directory is not None:
        builder.add_scanned(settings.models.directory)
    return Catalogue(builder.models, tuple(builder.problems), frozenset(builder.folders))


@dataclass(slots=True)
class _Builder:
    settings: Settings
    files: ModelFiles
    models: dict[ModelId, ModelSpec] = field(default_factory=dict)
    problems: list[CatalogueProblem] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    adapted: dict[ModelId, ModelId] = field(default_factory=dict)

    def add_configured(self, model: ModelId, entry: ModelSettings) -> None:
        """A model of the settings is always in the catalogue; at worst with a defect."""
        inspected = self.files.inspect(entry.path)
        if inspected.defect is not None:
            self._report(entry.path, f"{model} cannot be used. {inspected.defect}")
        run = entry.resolved(self._defaults_for(inspected))
        self._add(model, entry.path, inspected, run, pinned=entry.pinned, source="settings")
        self._add_adapters(self.models[model], entry, inspected.header)
        if entry.projector is not None:
            self._add_projector(self.models[model], entry.projector, inspected.header)

    def _add_projector(self, spec: ModelSpec, path: Path, header: ModelHeader | None) -> None:
        projector = inspect_projector(path, header)
        if projector.defect is not None and header is not None:
            self._report(path, f"{spec.id} cannot see. {projector.defect}")
        seeing = replace(spec, projector=projector)
        if spec.profile is not None and projector.defect is None:
            seeing = replace(seeing, profile=with_projector(spec.profile, projector))
        self.models[spec.id] = seeing

    def _add_adapters(
        self, spec: ModelSpec, entry: ModelSettings, header: ModelHeader | None
    ) -> None:
        adapters = inspect_adapters(entry.adapters, header)
        for adapter in adapters:
            if adapter.defect is not None and header is not None:
                self._report(
                    Path(adapter.path),
                    f"{adapted_id(spec.id, adapter.name)} cannot be used. {adapter.defect}",
                )
        adapted = replace(spec, adapters=adapters)
        if spec.profile is not None:
            adapted = replace(adapted, profile=with_adapters(spec.profile, adapted.sound_adapters))
        self.models[spec.id] = adapted
        self.adapted |= {adapted_id(spec.id, each.name): spec.id for each in adapters}

    def add_scanned(self, directory: Path) -> None:
        """Files that are not models, or whose id is taken, are reported and left out."""
        # Nobody asked for the default directory, so its absence is no problem.
        is_asked_for = "directory" in self.settings.models.model_fields_set
        found = find_model_files(directory, required=is_asked_for)
        self.problems.extend(found.problems)
        self.folders |= found.folders
        configured = {spec.identity for spec in self.models.values()}
        # Two names of one file: hard links. Symbolic ones have been followed.
        found_before: dict[FileIdentity | None, Path] = {}
        allowed = frozenset(found.paths)
        for path in found.paths:
            inspected = self.files.inspect(path)
            if inspected.header is None:
                is_fault = not inspected.is_companion
                self._report(path, f"It is left out. {inspected.defect}", is_fault=is_fault)
            elif not allowed.issuperset(part.path for part in inspected.parts):
                self._report(path, "It is left out: a part of it leads out of the directory.")
            elif (other := found_before.get(inspected.identity)) is not None:
                self._report(path, f"It is the same file as {other.name}.", is_fault=False)
            elif inspected.identity not in configured:
                found_before[inspected.identity] = path
                self._add_found(_found_id(path, inspected.header), path, inspected)

    def _add_found(self, model: ModelId | None, path: Path, inspected: InspectedFile) -> None:
        if model is None:
            self._report(path, "It is left out: neither header nor file name gives a model id.")
        elif (other := self.models.get(model)) is not None:
            self._report(
                path,
                f"It is left out: the id {model} belongs to {other.path}. Give it an id of its own "
                "under `models` in the settings.",
            )
        elif (base := self.adapted.get(model)) is not None:
            self._report(path, f"It is left out: {model} is an adapter of {base} in the settings.")
        else:
            run = self._defaults_for(inspected)
            self._add(model, path, inspected, run, pinned=False, source="scan")

    def _defaults_for(self, inspected: InspectedFile) -> DefaultsSettings:
        defaults, header = self.settings.defaults, inspected.header
        if header is None or not makes_vectors(header.profile):
            return defaults
        context = min(defaults.context_tokens, _DEFAULT_TEXT_TOKENS, header.context_length)
        return defaults.model_copy(update={"context_tokens": context})

    def _add(
        self,
        model: ModelId,
        path: Path,
        inspected: InspectedFile,
        run: DefaultsSettings,
        *,
        pinned: bool,
        source: str,
    ) -> None:
        header, identity = inspected.header, inspected.identity
        size = identity.size_bytes if identity is not None else Bytes(0)
        context = self._capped_context(model, path, run.context_tokens, header)
        self.models[model] = ModelSpec(
            id=model,
            path=path,
            identity=identity if header is not None else None,
            defect=inspected.defect,
            size_bytes=size,
            architecture=header.architecture if header is not None else None,
            context_tokens=context,
            slots=run.slots,
            threads=run.threads,
            keep_alive=run.keep_alive_seconds,
            pinned=pinned,
            source=source,
            profile=header.profile if header is not None else None,
            cache_type=run.cache_type,
            minimum_context=run.minimum_context_tokens,
            gpu=GpuUse(run.gpu),
            priority=run.priority,
            parts=inspected.parts,
            speculation=Speculation(run.speculation),
        )

    def _capped_context(
        self, model: ModelId, path: Path, wanted: Tokens, header: ModelHeader | None
    ) -> Tokens:
        if header is None or wanted <= header.context_length:
            return wanted
        self._report(
            path,
            f"{model} was trained with {header.context_length} tokens of context and gets these "
            f"instead of {wanted}.",
            is_fault=False,
        )
        return header.context_length

    def _report(self, path: Path, message: str, *, is_fault: bool = True) -> None:
        self.problems.append(CatalogueProblem(path, message, is_fault))


def _found_id(path: Path, header: ModelHeader) -> ModelId | None:
    if path.parent.name == IMPORTED_FOLDER:
        return imported_id(path)
    part = parse_part_name(path.name)
    return scanned_id(header, path.stem if part is None else part.stem)


def imported_id(path: Path) -> ModelId | None:
    """The id under which the daemon took the file at `path` in; None if the name is none."""
    found = imported_model_id(path.stem)
    return ModelId(found) if is_model_id(found) and found not in _RESERVED else None


def scanned_id(header: ModelHeader, stem: str) -> ModelId | None:
    """The id of a file nobody has named: basename, size and quantisation, else the file's name.

    The size is left out where the file does not tell it, or the basename does already.
    None if neither gives an id. The author's case is kept.
    """
    text = stem
    if header.basename is not None and header.quantisation is not None:
        size = header.size_label or ""
        is_told = size.lower() in re.split(r"[-_ ]", header.basename.lower())
        text = "-".join(
            (header.basename, *([] if is_told or not size else [size]), header.quantisation)
        )
    clean = _OUTSIDE_IDS.sub("-", text).strip("-._")[:MAX_ID_CHARACTERS]
    return ModelId(clean) if is_model_id(clean) and clean not in _RESERVED else None
