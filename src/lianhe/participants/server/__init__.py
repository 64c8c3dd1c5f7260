"""How the server applies the aggregated update of sites; `Add` (federated averaging) is of the core."""

from collections.abc import Callable, Mapping

from lianhe.core.step import Add, Step
from lianhe.participants.server.fedadagrad import FedAdagrad
from lianhe.participants.server.fedadam import FedAdam
from lianhe.participants.server.fedavgm import FedAvgM
from lianhe.participants.server.fedyogi import FedYogi
from lianhe.participants.server.rule import ServerStep

#: what a specification file may name
SERVER_STEPS: Mapping[str, Callable[..., Step]] = {
    "add": Add,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}

__all__ = ["SERVER_STEPS", "FedAdagrad", "FedAdam", "FedAvgM", "FedYogi", "ServerStep"]
