"""Which version of a model answers a request that takes a while to arrive."""

from __future__ import annotations

from toolkit.serving.interface import Model, Models
from toolkit.serving.refusals import NotReady, UnknownModel


def when_arrived(models: Models, first: Model, version: str | None) -> Model:
    """Return the model that answers a request, now that all of it is here.

    That is another one where it has taken over meanwhile. Where the version that is asked for was taken out, the
    request keeps it: it is closed only when the time of every request that has got it is up.

    Args:
        models: that are served.
        first: what the request got when it began to arrive.
        version: that it asks for; None for the newest.
    """
    try:
        return models.get(first.name, version)
    except (NotReady, UnknownModel):
        return first
