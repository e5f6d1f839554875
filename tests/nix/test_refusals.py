"""Wrong configurations are refused with a sentence that says what to do."""

from pathlib import Path

import pytest

from tests.nix.evaluation import HERE, LIBRARIES, REFUSED, Refused, machine

_PAGE = HERE.parents[1] / "docs" / "deployment-nixos.md"
_DECLARED = "services.unified-llm.models.declared"

# The module's own sentences, by the configuration that meets them; the page explains each.
_SENTENCES = {
    "account_not_declared": "services.unified-llm.user: there is no users.users.llm; declare it, "
    "or leave the option at its default.",
    "directory_in_a_home": "services.unified-llm.models.directory: the service cannot see "
    "/home/alice/models.",
    "fetched_without_hash": f"{_DECLARED}.tiny.sha256: is needed for a file that Nix fetches.",
    "group_not_declared": "services.unified-llm.group: there is no users.groups.llm; declare it, "
    "or leave the option at its default.",
    "hash_of_a_path": f"{_DECLARED}.tiny.sha256: has no meaning for a path; only fetched files are "
    "checked.",
    "model_called_directory": f"{_DECLARED}.directory: is not a model id.",
    "model_from_nowhere": f"{_DECLARED}.tiny: needs exactly one of path, url and huggingFace.",
    "model_from_two_places": f"{_DECLARED}.tiny: needs exactly one of path, url and huggingFace.",
    "model_id_with_space": f"{_DECLARED}.my model: is not a model id.",
    "model_in_a_home": f"{_DECLARED}.tiny.path: the service cannot see /home/alice/model.gguf.",
    "model_in_tmp": f"{_DECLARED}.tiny.path: the service cannot see /tmp/model.gguf.",
}

# What the module system says by itself; the words are nixpkgs'.
_BY_TYPE = {
    "context_out_of_range": "contextTokens' is not of type",
    "directory_as_path_literal": "models.directory' is not of type",
    "directory_in_the_store": "models.directory' is not of type",
    "socket_mode_not_octal": "settings.socket.mode' is not of type",
    "two_minds": "settings.defaults.slots' has conflicting definition",
    "unknown_acceleration": "acceleration' is not of type",
    "unknown_option": "services.unified-llm.vram",
}


def test_every_wrong_configuration_has_its_sentence() -> None:
    assert REFUSED.keys() == _SENTENCES.keys() | _BY_TYPE.keys()


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_configuration_is_refused(name: str, library: Path) -> None:
    with pytest.raises(Refused) as refusal:
        machine(REFUSED[name], library)
    assert {**_SENTENCES, **_BY_TYPE}[name] in str(refusal.value)


def test_the_page_lists_every_sentence() -> None:
    page = _PAGE.read_text()
    assert [sentence for sentence in _SENTENCES.values() if sentence not in page] == []
