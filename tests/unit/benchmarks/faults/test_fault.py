"""A fault is told by the function that does the damage."""

from pathlib import Path

from benchmarks.faults.fault import FileFault, NetworkFault, file_fault, network_fault


def test_a_network_fault_is_named_and_described_by_its_function(tiny):
    @network_fault(format="torchscript", unmeasured="elsewhere")
    def head_is_gone(network):
        """ImageNet's head is gone.

        What follows is for readers of the code.
        """
        return network.classifier

    network = tiny()
    assert head_is_gone.apply(network) is network.classifier
    assert head_is_gone == NetworkFault(
        name="head-is-gone",
        what="ImageNet's head is gone",
        format="torchscript",
        apply=head_is_gone.apply,
        unmeasured="elsewhere",
    )


def test_a_file_fault_changes_the_bundle_and_not_the_other_one(tmp_path):
    @file_fault(sealed=True)
    def note_left(bundle: Path) -> None:
        """A note was left."""
        (bundle / "note").touch()

    bundle, other = tmp_path / "bundle", tmp_path / "other"
    bundle.mkdir()
    other.mkdir()
    note_left.apply(bundle, other)

    assert [path.name for path in tmp_path.rglob("note")] == ["note"]
    assert (bundle / "note").is_file()
    assert note_left == FileFault(name="note-left", what="a note was left", apply=note_left.apply, sealed=True)
