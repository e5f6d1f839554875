"""Wrong configurations are refused with a sentence that says what to do."""

from pathlib import Path

import pytest

from tests.nix.evaluation import HERE, LIBRARIES, REFUSED, Refused, machine

_PAGE = HERE.parents[1] / "docs" / "deployment-nixos.md"
_DECLARED = "services.unified-llm.models.declared"
_PROVIDERS = "services.unified-llm.providers"

# The module's own sentences, by the configuration that meets them; the page explains each.
_SENTENCES = {
    "account_not_declared": "services.unified-llm.user: there is no users.users.llm; declare it, "
    "or leave the option at its default.",
    "adapter_in_a_home": f"{_DECLARED}.tiny.adapters.law.path: the service cannot see "
    "/home/alice/law.gguf.",
    "alias_of_two_models": f"{_DECLARED}.large.aliases: has a name that stands here twice, or is "
    "an alias of another model too.",
    "authorities_in_a_home": f"{_PROVIDERS}.openai.caFile: the service cannot see "
    "/home/alice/ca.pem.",
    "directory_in_a_home": "services.unified-llm.models.directory: the service cannot see "
    "/home/alice/models.",
    "fetched_without_hash": f"{_DECLARED}.tiny.sha256: is needed for a file that Nix fetches.",
    "group_not_declared": "services.unified-llm.group: there is no users.groups.llm; declare it, "
    "or leave the option at its default.",
    "hash_of_a_path": f"{_DECLARED}.tiny.sha256: has no meaning for a path; only fetched files are "
    "checked.",
    "key_from_two_places": f"{_PROVIDERS}.openai: has both keyFile and sopsSecret; the key comes "
    "from one of them.",
    "model_called_directory": f"{_DECLARED}.directory: is not a model id.",
    "model_from_nowhere": f"{_DECLARED}.tiny: needs exactly one of path, url and huggingFace.",
    "model_from_two_places": f"{_DECLARED}.tiny: needs exactly one of path, url and huggingFace.",
    "model_id_with_space": f"{_DECLARED}.my model: is not a model id.",
    "model_in_a_home": f"{_DECLARED}.tiny.path: the service cannot see /home/alice/model.gguf.",
    "model_in_tmp": f"{_DECLARED}.tiny.path: the service cannot see /tmp/model.gguf.",
    "projector_in_a_home": f"{_DECLARED}.tiny.projector: the service cannot see "
    "/home/alice/mmproj.gguf.",
    "provider_called_local": f"{_PROVIDERS}.local: is not the name of a provider.",
    "provider_from_nowhere": f"{_PROVIDERS}.workstation: needs url or socket; an openai-compatible "
    "server has no address of its own.",
    "provider_name_with_capitals": f"{_PROVIDERS}.OpenAI: is not the name of a provider.",
    "provider_on_hidden_socket": f"{_PROVIDERS}.neighbour.socket: the service cannot see "
    "/run/user/1000/api.sock.",
    "sops_secret_without_sops": f"{_PROVIDERS}.openai.sopsSecret: needs sops-nix; import its "
    "module, or set keyFile instead.",
}

# What the module system says by itself; the words are nixpkgs'.
_BY_TYPE = {
    "context_out_of_range": "contextTokens' is not of type",
    "directory_as_path_literal": "models.directory' is not of type",
    "directory_in_the_store": "models.directory' is not of type",
    "key_as_path_literal": "keyFile' is not of type",
    "key_in_the_store": "keyFile' is not of type",
    "key_itself": "keyFile' is not of type",
    "provider_of_unknown_kind": "kind' is not of type",
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
