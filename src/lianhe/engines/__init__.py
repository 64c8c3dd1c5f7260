"""Where participants run; the plain loop is in core."""

from lianhe.core.engine import Engine, LoopEngine
from lianhe.engines.distributed import DistributedEngine
from lianhe.engines.shared import SharedEngine

__all__ = ["DistributedEngine", "Engine", "LoopEngine", "SharedEngine"]
