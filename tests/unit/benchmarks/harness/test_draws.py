from __future__ import annotations

import numpy as np
from tiny_training import tiny_recipe, tiny_setting, tiny_split

from benchmarks.harness.draws import instead, part_of
from toolkit.training import setting


def test_a_part_has_its_images_in_the_order_they_were_chosen() -> None:
    whole = tiny_split("train", 6)
    part, other = (part_of(whole, "validation", np.array(chosen)) for chosen in ([4, 1], [1, 4]))
    assert part.name == "validation"
    assert part.names == (whole.names[4], whole.names[1])
    assert part.targets.tolist() == [0, 1]
    assert np.array_equal(np.asarray(part.sources[0]), np.asarray(whole.sources[4]))
    assert part.fingerprint not in (whole.fingerprint, other.fingerprint)


def test_training_loads_other_data_and_afterwards_its_own_again() -> None:
    dataset, own = tiny_setting(tiny_recipe()).dataset, setting.load_dataset
    with instead(dataset):
        assert setting.load_dataset(tiny_recipe().data, 0) is dataset
    assert setting.load_dataset is own
