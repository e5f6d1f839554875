"""docs/reference/dbus.md says what the interface files say."""

import pytest

from tests.static.places import REPOSITORY
from unified_llm.bus import faults
from unified_llm.bus.interface import Interface
from unified_llm.surfaces.dbus import contract, reference

INTERFACES = contract.INTERFACES


def members_of(interface: Interface) -> set[str]:
    return {*interface.methods, *interface.signals, *interface.properties}


def test_the_reference_is_up_to_date() -> None:
    written = (REPOSITORY / "docs" / "reference" / "dbus.md").read_text(encoding="utf-8")
    assert written == reference.render_reference(), (
        "run `python -m unified_llm.surfaces.dbus.reference > docs/reference/dbus.md`"
    )


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda found: found.name)
def test_every_member_is_described_and_nothing_else(interface: Interface) -> None:
    comments = reference.comments_of(interface)
    assert comments.keys() == {interface.name, *members_of(interface)}
    for name, comment in comments.items():
        assert comment.paragraphs, name


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda found: found.name)
def test_every_argument_is_described_and_nothing_else(interface: Interface) -> None:
    comments = reference.comments_of(interface)
    for method in interface.methods.values():
        names = {argument.name for argument in (*method.inputs, *method.outputs)}
        assert comments[method.name].arguments.keys() == names, method.name
    for signal in interface.signals.values():
        names = {argument.name for argument in signal.arguments}
        assert comments[signal.name].arguments.keys() == names, signal.name


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda found: found.name)
def test_every_member_has_an_example(interface: Interface) -> None:
    examples = reference.examples_of(interface)
    assert examples.keys() == members_of(interface)
    for name, example in examples.items():
        assert example.startswith("busctl "), name
        assert interface.name in example, name
        assert name in example, name


def test_every_error_has_a_row() -> None:
    written = reference.render_reference()
    for error, name in faults.NAMES.items():
        assert f"| `{name}` | `{error.code}` |" in written
