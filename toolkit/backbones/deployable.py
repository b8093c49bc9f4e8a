"""The network that every format carries, and PyTorch itself behind the same session protocol as an artifact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from toolkit.bundle.manifest import InputContract, Normalization, OutputContract
from toolkit.devices import require_cuda_device
from toolkit.errors import DeviceError
from toolkit.formats.torch_session import call_on_device, compute_in_float32, device_name, torch_threads, uses_tf32


class Deployable(nn.Module):
    """A classifier with its normalisation before and its softmax behind it, so that all artifacts mean the same.

    Takes uint8 ``[N, H, W, 3]`` RGB (``input="images"``), or normalised float32 ``[N, 3, H, W]`` (``input="tensor"``);
    returns ``(logits, probabilities)``, both float32 ``[N, C]``. With ``flip_test`` the logits are the mean of those of
    each image and of its mirror image, left and right exchanged: each call computes 2 N images.
    """

    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        classifier: nn.Module,
        normalization: Normalization,
        takes_images: bool = True,
        flip_test: bool = False,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.takes_images = takes_images
        self.flip_test = flip_test
        self.register_buffer("offset", torch.tensor(normalization.mean, dtype=torch.float32).view(1, 3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(normalization.std, dtype=torch.float32).view(1, 3, 1, 1) * 255))
        self.eval()

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and probabilities."""
        if self.takes_images:
            inputs = (inputs.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset) * self.scale
        if self.flip_test:
            inputs = torch.cat([inputs, inputs.flip(3)])
        logits = self.classifier(inputs).float()
        if self.flip_test:
            logits = logits.unflatten(0, (2, -1)).mean(0)
        return logits, logits.softmax(dim=1)


def input_contract(normalization: Normalization, height: int, width: int, takes_images: bool = True) -> InputContract:
    """Describe the input of ``Deployable`` for the manifest."""
    if takes_images:
        return InputContract(
            name="images",
            dtype="uint8",
            shape=("N", height, width, 3),
            normalization=normalization,
            normalization_in_graph=True,
        )
    return InputContract(
        name="tensor",
        dtype="float32",
        shape=("N", 3, height, width),
        normalization=normalization,
        normalization_in_graph=False,
    )


def output_contracts(classes: int, flip_test: bool = False) -> tuple[OutputContract, OutputContract]:
    """Describe the outputs of ``Deployable`` for the manifest."""
    mean = ", the mean of those of the image and of its mirror image (each call computes 2 N images)"
    return (
        OutputContract(
            name="logits", shape=("N", classes), meaning=f"scores before softmax{mean if flip_test else ''}"
        ),
        OutputContract(name="probabilities", shape=("N", classes), meaning="softmax of the logits; each row sums to 1"),
    )


class TorchSession:
    """PyTorch itself as a session: the reference of every comparison."""

    def __init__(
        self, deployable: Deployable, device: str = "cpu", threads: int = 1, channels_last: bool = False
    ) -> None:
        """Move the network to a device.

        Raises:
            DeviceError: CUDA was asked for and PyTorch cannot use it.
        """
        if device != "cpu" and not torch.cuda.is_available():
            raise DeviceError(
                "PyTorch sees no CUDA device: torch.cuda.is_available() is False. Use --device cpu, or see 'toolkit "
                "doctor'."
            )
        if device != "cpu":
            require_cuda_device(device, torch.cuda.device_count(), "PyTorch")
            compute_in_float32()
        self.device = device
        self.threads = threads
        self.engine = f"torch {torch.__version__}"
        self.provider = device_name(device)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._network = deployable.to(device).to(memory_format=memory_format).eval()

    @property
    def tf32(self) -> bool | None:
        """Whether float32 products may be computed in TF32; None on the CPU."""
        return uses_tf32(self.device)

    def on_device(self, inputs: npt.NDArray[np.generic]) -> Callable[[], float]:
        """Return one call with everything on the GPU (see ``formats.base.Session``)."""
        return call_on_device(self._network, inputs, self.device, self.threads)

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch (see ``formats.base.Session.run``); the copy back to the host waits for the device."""
        with torch_threads(self.threads), torch.inference_mode():
            logits, probabilities = self._network(torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device))
            return {"logits": logits.cpu().numpy(), "probabilities": probabilities.cpu().numpy()}
