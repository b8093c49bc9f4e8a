"""What a service embeds: ``load`` a bundle, ``predict``."""

from toolkit.runtime.predictor import Prediction, Predictor, load

__all__ = ["Prediction", "Predictor", "load"]
