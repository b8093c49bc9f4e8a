from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tests.asgi import Answer, ask
from toolkit.serving.refusals import Overloaded
from toolkit.serving.routing import Route, Router


async def params(request: Request) -> Response:
    return PlainTextResponse(str(request.path_params))


async def posted(request: Request) -> Response:
    return PlainTextResponse(b"posted " + await request.body())


async def full(request: Request) -> Response:
    raise Overloaded("come back later.", 3.0)


async def broken(request: Request) -> Response:
    raise RuntimeError("secret")


ROUTES = [
    Route("GET", "/a/{name}", params),
    Route("GET", "/a/{name}/b/{version}", params),
    Route("GET", "/a/fixed", posted),
    Route("POST", "/a/fixed", posted),
    Route("DELETE", "/a/{name}", posted),
    Route("GET", "/x.y", params),
    Route("GET", "/full", full),
    Route("GET", "/broken", broken),
]


def below(request: Request, allowed: str) -> str:
    return f"{request.method}: {allowed or 'nothing'}"


def get(path: str, method: str = "GET", body: bytes = b"") -> Answer:
    return ask(Router(ROUTES, {"/a": below}), method, path, body)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/a/1", "{'name': '1'}"),
        ("/a/1%202", "{'name': '1 2'}"),
        ("/a/1/b/2", "{'name': '1', 'version': '2'}"),
        ("/x.y", "{}"),
    ],
)
def test_a_path_leads_to_its_route_with_its_parameters(path: str, said: str) -> None:
    answer = get(path)
    assert (answer.status, answer.body.decode()) == (200, said)


def test_a_path_without_parameters_comes_first_and_each_method_has_its_handler() -> None:
    assert get("/a/fixed", "POST", b"it").body == b"posted it"
    assert get("/a/fixed").body == b"posted "
    assert get("/a/1", "DELETE").body == b"posted "


def test_head_is_taken_where_get_is() -> None:
    assert get("/a/1", "HEAD").status == 200
    assert get("/x.y", "HEAD").status == 200


@pytest.mark.parametrize("path", ["/", "/x", "/xzy", "/x.y/", "/ab", "/x.y\n"])
def test_elsewhere_there_is_nothing(path: str) -> None:
    answer = get(path)
    assert (answer.status, answer.json) == (404, {"error": "there is nothing at this address."})


@pytest.mark.parametrize("path", ["/a", "/a/", "/a/1/", "/a/1/b", "/a//b/2"])
def test_below_a_place_there_is_what_it_says(path: str) -> None:
    answer = get(path)
    assert (answer.status, answer.json) == (404, {"error": "GET: nothing"})


def test_another_method_is_told_which_are_taken() -> None:
    answer = get("/x.y", "PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json == {"error": "PUT is not done here."}
    answer = get("/a/1", "PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert answer.json == {"error": "PUT: DELETE, GET, HEAD"}


def test_a_refusal_is_an_answer() -> None:
    answer = get("/full")
    assert (answer.status, answer.headers["retry-after"], answer.json) == (503, "3", {"error": "come back later."})


def test_what_is_no_refusal_passes() -> None:
    with pytest.raises(RuntimeError, match="secret"):
        get("/broken")
