from __future__ import annotations

import numpy as np
from tiny_training import tiny_split

from benchmarks.harness.draws import part_of


def test_a_part_has_its_images_in_the_order_they_were_chosen() -> None:
    whole = tiny_split("train", 6)
    part, other = (part_of(whole, "validation", np.array(chosen)) for chosen in ([4, 1], [1, 4]))
    assert part.name == "validation"
    assert part.names == (whole.names[4], whole.names[1])
    assert part.targets.tolist() == [0, 1]
    assert np.array_equal(np.asarray(part.sources[0]), np.asarray(whole.sources[4]))
    assert part.fingerprint not in (whole.fingerprint, other.fingerprint)
