from __future__ import annotations

import torch

from lianhe.linalg import flatten


def test_all_numbers_in_the_order_of_blocks_and_tensors():
    blocks = {
        "b": {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "v": torch.tensor(5.0)},
        "a": {"w": torch.tensor([6.0])},
    }
    assert flatten(blocks).tolist() == [1, 2, 3, 4, 5, 6]
