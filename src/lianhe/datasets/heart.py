"""Four hospitals, one disease: natural sites with really missing values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from lianhe.datasets._files import read_rows
from lianhe.datasets.dataset import Dataset

Row = Mapping[str, str]

_HOSPITALS = MappingProxyType(
    {"cleveland": "Cleveland", "hungary": "Hungary", "switzerland": "Switzerland", "va": "VA Long Beach"}
)
_AMOUNTS = ("age", "trestbps", "chol", "oldpeak", "ca")
_ZERO_IS_MISSING = frozenset({"trestbps", "chol"})
_YES = MappingProxyType({"sex": "Male", "fbs": "TRUE", "exang": "TRUE"})
_LEVELS = MappingProxyType(
    {
        "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
        "restecg": ("normal", "st-t abnormality", "lv hypertrophy"),
        "slope": ("upsloping", "flat", "downsloping"),
        "thal": ("normal", "fixed defect", "reversable defect"),
    }
)
_NAN = float("nan")


def load_heart() -> dict[str, Dataset]:
    """Return the 920 patients of UCI Heart Disease, by hospital.

    x, float32 [n, 21], is what was recorded: NaN stands for what was not, so prepare it with `Standardize`.

    - amounts: `age` (years), `trestbps` (resting blood pressure, mmHg), `chol` (cholesterol, mg/dl),
      `oldpeak` (ST depression, mm), `ca` (major vessels coloured by fluoroscopy, 0 to 3). A cholesterol or
      blood pressure of 0 was not measured and is NaN.
    - yes or no, 1 or 0: `sex=Male`, `fbs=TRUE` (fasting blood sugar above 120 mg/dl), `exang=TRUE`.
    - one column for each value of `cp`, `restecg`, `slope`, `thal`; where the value is missing, all are NaN.

    The targets:

    - `disease`, int64: 1 if any vessel is narrowed (`num` above 0).
    - `severity`, float32: the grade `num`, 0 to 4. It is ordinal: the steps are not equally far apart. For
      Hungary the file has only whether there is disease (0 or 1), another scale: there it is NaN throughout.
    - `max_heart_rate`, float32: the highest reached (`thalch`, beats a minute), NaN where not recorded. A
      target, and hence not in x.

    Switzerland is 93 % diseased and has no cholesterol at all; `ca` and `thal` are mostly absent outside
    Cleveland. Patient 304 is filed under Cleveland as it came, but looks Hungarian (files/LICENCES.md).

    Source: Janosi, Steinbrunn, Pfisterer & Detrano, Heart Disease, UCI, doi:10.24432/C52P4X, CC BY 4.0;
    Detrano et al., American Journal of Cardiology 64, 1989.

    Example:
        >>> sites = load_heart()
        >>> {site: len(data) for site, data in sites.items()}
        {'cleveland': 304, 'hungary': 293, 'switzerland': 123, 'va': 200}
        >>> sites["va"]
        Dataset('heart/va', rows=200, x=[21], y={disease: int64, severity: float32, max_heart_rate: float32})
    """
    rows = read_rows("heart_disease_uci.csv")
    by_site = {site: [row for row in rows if row["dataset"] == label] for site, label in _HOSPITALS.items()}
    return {site: _hospital(site, patients) for site, patients in by_site.items()}


def _hospital(site: str, rows: Sequence[Row]) -> Dataset:
    x = torch.tensor([list(_inputs(row).values()) for row in rows])
    return Dataset(x, _targets(rows), tuple(_inputs(rows[0])), f"heart/{site}", "CC BY 4.0")


def _inputs(row: Row) -> dict[str, float]:
    amounts = {name: _amount(row[name], name in _ZERO_IS_MISSING) for name in _AMOUNTS}
    answers = {f"{name}={yes}": _equals(row[name], yes) for name, yes in _YES.items()}
    values = [(name, level) for name, levels in _LEVELS.items() for level in levels]
    one_hot = {f"{name}={level}": _equals(row[name], level) for name, level in values}
    return amounts | answers | one_hot


def _targets(rows: Sequence[Row]) -> dict[str, Tensor]:
    grade = torch.tensor([float(row["num"]) for row in rows])
    graded = torch.tensor([row["dataset"] != "Hungary" for row in rows])
    rate = torch.tensor([_amount(row["thalch"], zero_is_missing=False) for row in rows])
    return {"disease": (grade > 0).long(), "severity": grade.where(graded, _NAN), "max_heart_rate": rate}


def _amount(cell: str, zero_is_missing: bool) -> float:
    value = float(cell) if cell else _NAN
    return _NAN if zero_is_missing and value == 0 else value


def _equals(cell: str, level: str) -> float:
    return float(cell == level) if cell else _NAN
