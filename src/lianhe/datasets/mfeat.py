"""Handwritten digits seen in six ways: views for co-training and fusion."""

from __future__ import annotations

from lianhe.datasets._files import read_arrays, tensor
from lianhe.datasets.dataset import Dataset

_VIEWS = ("fac", "fou", "kar", "mor", "pix", "zer")


def load_mfeat() -> Dataset:
    """Return the 2,000 digits of UCI Multiple Features in six views.

    x holds, float32 and by name: `fac` [n, 216] profile correlations, `fou` [n, 76] Fourier coefficients of
    the shape, `kar` [n, 64] Karhunen-Loeve coefficients, `mor` [n, 6] morphological features, `pix` [n, 240]
    averages of 2 x 3 pixels, `zer` [n, 47] Zernike moments. Nothing is missing; the scales differ much, so
    prepare them with `Standardize`.
    y is `digit`, int64, 200 rows of each, in order: split or partition with a seed, never by position.

    Views of one digit are not independent given its class; `repair_within_class` makes them so.

    Source: Duin, Multiple Features, UCI, doi:10.24432/C5HC70, CC BY 4.0.

    Example:
        >>> digits = load_mfeat()
        >>> {view: x.shape[1] for view, x in digits.x.items()}
        {'fac': 216, 'fou': 76, 'kar': 64, 'mor': 6, 'pix': 240, 'zer': 47}
    """
    arrays = read_arrays("mfeat_6views.npz")
    x = {view: tensor(arrays[view]) for view in _VIEWS}
    features = tuple(f"{view}_{column}" for view in _VIEWS for column in range(x[view].shape[1]))
    return Dataset(x, {"digit": tensor(arrays["y"])}, features, "mfeat", "CC BY 4.0")
