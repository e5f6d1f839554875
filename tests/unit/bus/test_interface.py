"""Reading our interface files."""

from pathlib import Path

import pytest

from unified_llm.bus.interface import ChangeSignal, load_interface, parse_interface

_TEXT = """<!DOCTYPE node PUBLIC "x" "y">
<node xmlns:doc="http://www.freedesktop.org/dbus/1.0/doc.dtd">
  <interface name="org.x.I">
    <!-- Why it is there. -->
    <method name="M">
      <arg name="a" type="s" direction="in"/>
      <arg name="b" type="a{sv}" direction="in"/>
      <arg name="c" type="u" direction="out"/>
    </method>
    <signal name="S"><arg name="a" type="u"/><arg name="b" type="o"/></signal>
    <property name="P" type="s" access="readwrite"/>
    <property name="Q" type="t" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/>
    </property>
  </interface>
</node>"""


def test_everything_dispatch_needs_is_read() -> None:
    found = parse_interface(_TEXT)
    assert found.name == "org.x.I"
    assert (found.methods["M"].in_signature, found.methods["M"].out_signature) == ("sa{sv}", "u")
    assert [argument.name for argument in found.methods["M"].inputs] == ["a", "b"]
    assert found.signals["S"].signature == "uo"
    assert found.properties["P"].is_writable
    assert found.properties["P"].emits is ChangeSignal.VALUE
    assert not found.properties["Q"].is_writable
    assert found.properties["Q"].emits is ChangeSignal.CONST


def test_the_xml_keeps_comments_and_annotations_and_means_the_same() -> None:
    found = parse_interface(_TEXT)
    assert "<!-- Why it is there. -->" in found.xml
    assert found.xml.startswith("<interface")
    assert found.xml.endswith("</interface>")
    assert parse_interface(f"<node>{found.xml}</node>") == found


def test_an_annotation_of_the_interface_holds_for_its_properties() -> None:
    text = _TEXT.replace(
        "<!-- Why it is there. -->",
        '<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>',
    )
    found = parse_interface(text)
    assert found.properties["P"].emits is ChangeSignal.NONE
    assert found.properties["Q"].emits is ChangeSignal.CONST


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("</node>", ""),
        ('name="org.x.I"', ""),
        ('access="read"', 'access="write"'),
        ('value="const"', 'value="maybe"'),
        ('type="a{sv}"', ""),
        ("</node>", "<interface name='a.B'/></node>"),
    ],
)
def test_a_file_that_is_wrong_is_refused(right: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_interface(_TEXT.replace(right, wrong))


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "org.x.I.xml"
    path.write_text(_TEXT)
    assert load_interface(path) == parse_interface(_TEXT)
