"""The tools beside each other."""

import json

from benchmarks import fault_peers


def test_tools_are_set_beside_each_other(case):
    cases = [
        case("bgr", file="broken/bgr.onnx"),
        case("edited-labels"),
        case("", caught=False),
    ]
    opinions, answers = {}, ((True, "far off"), (False, fault_peers.NOT_SEEN), (True, "1e-5"))
    for peer in fault_peers.PEERS:
        for judged, (refused, why) in zip(cases, answers, strict=True):
            heard = fault_peers.Heard(peer.name, *judged.key, refused, why)
            opinions[heard.key] = heard

    report = fault_peers.report(cases, opinions)

    assert [claim.met for claim in report.claims] == [True, True]
    assert report.tables[0].rows[0] == (fault_peers.OURS, "2 of 2", "1 of 1", "0 of 1")
    assert report.tables[0].rows[1] == (fault_peers.PEERS[0].name, "1 of 2", "1 of 1", "1 of 1")
    assert report.tables[2].rows[1] == ("edited-labels", "1 of 1", *[fault_peers.NOT_SEEN] * len(fault_peers.PEERS))


def test_opinions_are_read_again(tmp_path):
    path = tmp_path / fault_peers.OPINIONS
    path.write_text(
        json.dumps({"tool": "t", "run": "r", "name": "n", "format": "onnx", "refused": True, "why": "w"}) + "\n"
    )

    assert fault_peers.read_opinions(path)[("t", "r", "n", "onnx")].refused
