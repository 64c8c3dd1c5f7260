"""What a site or a view does between rounds."""

from lianhe.participants.local.fedprox import FedProx
from lianhe.participants.local.rule import LocalRule
from lianhe.participants.local.sgd import Local

__all__ = ["FedProx", "Local", "LocalRule"]
