"""The machine that booted.sh asks for its providers is one, and holds no key."""

from pathlib import Path

from tests.system.render import write_machine
from unified_llm.settings.load import load_settings


def test_units_and_settings_are_where_systemd_and_the_daemon_look(tmp_path: Path) -> None:
    write_machine(tmp_path)
    unit = (tmp_path / "etc/systemd/system/unified-llm.service").read_text()
    assert "LoadCredential=provider-elsewhere:/run/secrets/elsewhere\n" in unit
    assert "LoadCredential=provider-keyless:/etc/secrets/keyless\n" in unit
    assert "ExecStart=/opt/unified-llm/bin/unified-llmd --config /etc/unified-llm/" in unit
    assert (tmp_path / "etc/systemd/system/unified-llm.socket").exists()
    settings = load_settings(tmp_path / "etc/unified-llm/config.yaml")
    assert settings.providers["elsewhere"].key == "provider-elsewhere"
