"""Cases survive a stop."""

from benchmarks.faults.ledger import LEDGER, Ledger


def test_a_ledger_goes_on_where_it_was_and_keeps_the_later_of_two(case, tmp_path):
    path = tmp_path / LEDGER
    Ledger(path).add(case("bgr", caught=False))

    ledger = Ledger(path)
    assert ("tf_efficientnet_lite0-0", "bgr", "onnx") in ledger
    ledger.add(case("bgr"))

    assert [found.caught for found in Ledger(path)] == [True]
    assert len(path.read_text().splitlines()) == 2
