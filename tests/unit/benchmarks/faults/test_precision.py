"""The overflow that only float16 sees."""

import torch

from benchmarks.faults.precision import float16_overflow


def test_the_network_that_overflows_in_float16_is_right_in_float32(tiny, noise):
    broken = float16_overflow.apply(tiny().train(False))
    inputs = torch.from_numpy(noise)
    with torch.inference_mode():
        torch.testing.assert_close(broken(inputs), tiny()(inputs))
        for parameter in broken.parameters():
            parameter.mul_(10)
        logits, _ = broken(inputs)
        assert logits.abs().max() > 2
        assert not broken.half()(inputs)[0].isfinite().all()
