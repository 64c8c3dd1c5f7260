"""Multiple features: six views of the same digits."""

import torch

from lianhe.datasets import load_mfeat


def test_shapes_types_and_counts() -> None:
    digits = load_mfeat()
    widths = {view: x.shape[1] for view, x in digits.x.items()}
    assert widths == {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in digits.x.values())
    assert digits.y["digit"].bincount().tolist() == [200] * 10
    assert digits.features[0] == "fac_0"
    assert digits.features[-1] == "zer_46"


def test_take_and_split_keep_the_views_together() -> None:
    digits = load_mfeat()
    train, test = digits.split(test=0.25, seed=0, stratify="digit")
    assert test.y["digit"].bincount().tolist() == [50] * 10
    assert all(len(x) == 1500 for x in train.x.values())
    assert torch.equal(digits.take([1999]).x["pix"][0], digits.x["pix"][1999])
