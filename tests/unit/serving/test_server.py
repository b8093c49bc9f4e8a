"""What the server is made of; the server as a whole runs in ``tests/integration/test_serve.py``."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from toolkit.errors import ToolkitError
from toolkit.serving.interface import Served
from toolkit.serving.server import ServerOptions, Tls, _address, _listen, serve


def test_a_port_that_is_taken_is_said(colour_bundle_once: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ToolkitError) as refused:
            serve([Served(colour_bundle_once)], ServerOptions(port=port, grpc_port=None), lambda _: None)
    assert str(refused.value) == (
        f"the server cannot listen on 127.0.0.1, port {port}: Address already in use. Give another --host or --port, "
        "or port 0 for any that is free."
    )


def test_an_address_that_is_none_is_said() -> None:
    for host in ("nowhere.invalid", "a..b", "300.1.1.1"):
        with pytest.raises(ToolkitError, match="the server cannot listen on"):
            _listen(host, 0)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6 sockets that take IPv4")
def test_every_network_is_that_of_both_protocols() -> None:
    try:
        listening = _listen("::", 0)
    except ToolkitError:
        pytest.skip("this machine has no IPv6")
    with listening, socket.create_connection(("127.0.0.1", listening.getsockname()[1]), timeout=10):
        pass


def test_where_it_listens_is_said_as_in_a_url() -> None:
    assert _address("127.0.0.1", 80) == "127.0.0.1:80"
    assert _address("::1", 80) == "[::1]:80"


def test_two_models_of_one_name_are_refused(colour_bundle_once: Path) -> None:
    with pytest.raises(ToolkitError, match="two models are called 'colours': tell them apart with NAME=BUNDLE"):
        serve([Served(colour_bundle_once)] * 2, ServerOptions(), lambda _: None)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_certificate_that_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.pem").write_bytes(content)
    with pytest.raises(ToolkitError, match=r"a\.pem and .*a\.pem cannot be used for TLS: .*both in PEM"):
        Tls(tmp_path / "a.pem", tmp_path / "a.pem").require()
