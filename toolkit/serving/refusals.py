"""What a request is refused with: one class for each answer, with its codes in HTTP and gRPC.

::

    Refusal                      the message is one sentence for whoever sent the request
    ├── BadRequest               400 INVALID_ARGUMENT     not what the protocol or the model takes
    ├── Unauthorized             401 UNAUTHENTICATED      no key, or one that is not known
    ├── UnknownModel             404 NOT_FOUND            no model, or no version of it, by that name
    ├── TooLarge                 413 RESOURCE_EXHAUSTED   more bytes, images or pixels than the server takes
    ├── UnreadableImage          422 INVALID_ARGUMENT     bytes that are no image
    ├── ModelFailed              500 INTERNAL             the engine raised, or computed no finite numbers
    ├── Overloaded               503 UNAVAILABLE          the queue is full; ``retry_after`` says when to come back
    ├── NotReady                 503 UNAVAILABLE          the model is loading or has failed, or the server drains
    └── TimedOut                 504 DEADLINE_EXCEEDED    it could not be answered in time
"""

from __future__ import annotations

from typing import ClassVar, Final

FAULT: Final = "the server has a fault: its log says more."
"""What is told of an error of ours; the log gets the traceback."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of the server
    """A request that gets no result.

    Attributes:
        retry_after: seconds after which another try makes sense; None where it makes none.
    """

    http: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"
    """A name of ``grpc.StatusCode``."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadRequest(Refusal):
    """Not what the protocol or the model takes."""

    http, grpc = 400, "INVALID_ARGUMENT"


class Unauthorized(Refusal):
    """No key, or one that is not known."""

    http, grpc = 401, "UNAUTHENTICATED"


class UnknownModel(Refusal):
    """No model, or no version of it, by that name."""

    http, grpc = 404, "NOT_FOUND"


class TooLarge(Refusal):
    """More bytes, images or pixels than the server takes."""

    http, grpc = 413, "RESOURCE_EXHAUSTED"


class UnreadableImage(Refusal):
    """Bytes that are no image."""

    http, grpc = 422, "INVALID_ARGUMENT"


class ModelFailed(Refusal):
    """The engine raised, or computed no finite numbers."""


class Overloaded(Refusal):
    """The queue is full."""

    http, grpc = 503, "UNAVAILABLE"


class NotReady(Refusal):
    """The model is loading or has failed, or the server drains."""

    http, grpc = 503, "UNAVAILABLE"


class TimedOut(Refusal):
    """It could not be answered in time."""

    http, grpc = 504, "DEADLINE_EXCEEDED"
