"""Objects, their values, and what clients should be told of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.interface import parse_interface
from unified_llm.bus.objects import (
    CallContext,
    ExportedInterface,
    ExportedObject,
    LiveObject,
    ObjectTree,
)
from unified_llm.bus.values import Variant
from unified_llm.domain.callers import Caller, Door

_XML = parse_interface("""<node><interface name="org.x.I">
  <method name="M"><arg name="a" type="s" direction="out"/></method>
  <property name="A" type="u" access="read"/>
  <property name="B" type="s" access="readwrite"/>
</interface></node>""")


async def _method(_context: CallContext) -> tuple[object, ...]:
    return ("",)


async def _setter(_context: CallContext, _value: object) -> None: ...


def _exported(owner: Caller | None = None) -> ExportedObject:
    return ExportedObject(
        (ExportedInterface(_XML, {"M": _method}, {"A": 0, "B": ""}, {"B": _setter}),), owner
    )


def _caller(uid: int) -> Caller:
    return Caller(uid, frozenset(), None, Door.DBUS, f":1.{uid}")


def test_what_differs_from_the_xml_is_not_exported() -> None:
    with pytest.raises(ValueError, match=r"methods .*'M'"):
        ExportedInterface(_XML, {}, {"A": 0, "B": ""}, {"B": _setter})
    with pytest.raises(ValueError, match=r"properties .*'A'"):
        ExportedInterface(_XML, {"M": _method}, {"B": ""}, {"B": _setter})
    with pytest.raises(ValueError, match=r"setters .*'A'"):
        ExportedInterface(_XML, {"M": _method}, {"A": 0, "B": ""}, {"A": _setter, "B": _setter})


def test_a_descriptor_inside_of_something_is_not_exported() -> None:
    nested = parse_interface("""<node><interface name="org.x.I">
      <method name="M"><arg name="a" type="ah" direction="out"/></method>
    </interface></node>""")
    with pytest.raises(ValueError, match="descriptor"):
        ExportedInterface(nested, {"M": _method})


@given(st.lists(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 2)), max_size=5)))
def test_changes_told_add_up_to_the_values(turns: list[list[tuple[str, int]]]) -> None:
    live = LiveObject("/a", _exported())
    told: dict[str, object] = {"A": 0, "B": ""}
    for turn in turns:
        for name, number in turn:
            live.set("org.x.I", {name: number if name == "A" else "x" * number})
        for change in live.take_changes():
            for name, variant in change.values.items():
                assert told[name] != variant.value, "told something that had not changed"
                told[name] = variant.value
        assert told == {name: variant.value for name, variant in live.values("org.x.I").items()}


def test_a_value_that_does_not_fit_changes_nothing() -> None:
    live = LiveObject("/a", _exported())
    with pytest.raises(ValueError, match="UINT32"):
        live.set("org.x.I", {"B": "new", "A": -1})
    assert live.values("org.x.I")["B"].value == ""
    assert list(live.take_changes()) == []


def test_private_objects_are_for_their_user_and_root() -> None:
    private, public = _exported(_caller(1000)), _exported()
    assert [private.is_visible_to(who) for who in (_caller(1000), _caller(0))] == [True, True]
    assert [private.is_visible_to(who) for who in (_caller(1001), None)] == [False, False]
    assert public.is_visible_to(None)


def test_children_are_those_that_lead_to_something_visible() -> None:
    tree = ObjectTree()
    for path in ("/a", "/a/b/c", "/ab"):
        tree.add(path, _exported())
    tree.add("/a/x/y", _exported(_caller(1000)))
    assert tree.children("/", None) == ["a", "ab"]
    assert tree.children("/a", None) == ["b"]
    assert tree.children("/a", _caller(1000)) == ["b", "x"]
    assert tree.leads_somewhere("/a/x")
    assert not tree.leads_somewhere("/a/c")
    assert tree.has_private
    tree.remove("/a/x/y")
    assert not tree.has_private


def test_a_path_is_taken_once_and_must_be_legal() -> None:
    tree = ObjectTree()
    tree.add("/a", _exported())
    with pytest.raises(ValueError, match="already"):
        tree.add("/a", _exported())
    with pytest.raises(ValueError, match="object path"):
        tree.add("a", _exported())
    with pytest.raises(KeyError):
        tree.remove("/b")


def test_what_a_reader_gives_is_read_anew_and_never_told() -> None:
    described = parse_interface("""<node><interface name="org.x.I">
      <property name="A" type="u" access="read"/>
      <property name="C" type="u" access="read">
        <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
      </property>
    </interface></node>""")
    now: dict[str, object] = {"C": 5}
    found = ExportedInterface(described, {}, {"A": 0, "C": 0}, reader=lambda: now)
    live = LiveObject("/a", ExportedObject((found,)))
    assert live.values("org.x.I")["C"] == Variant("u", 5)
    now["C"] = 6
    assert live.all_values()["org.x.I"] == {"A": Variant("u", 0), "C": Variant("u", 6)}
    assert list(live.take_changes()) == []
    now["A"] = 1
    with pytest.raises(ValueError, match="without a signal"):
        live.values("org.x.I")
