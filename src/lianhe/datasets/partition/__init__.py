"""Which rows are at which site: a partitioner takes data and a seed and returns row numbers by site."""

from lianhe.datasets.partition.by_column import ByColumn
from lianhe.datasets.partition.dirichlet import Dirichlet
from lianhe.datasets.partition.iid import IID
from lianhe.datasets.partition.partitioner import Partitioner

__all__ = ["IID", "ByColumn", "Dirichlet", "Partitioner"]
