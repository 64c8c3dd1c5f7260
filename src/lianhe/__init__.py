"""lianhe (联合): training together. Tasks, views, sites and experts, in one loop; and does it help?"""

from lianhe import datasets, nets
from lianhe.core.engine import Engine, LoopEngine
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.participants import Expert, FedProx, HardSharing, Local, Site, Task, View
from lianhe.core.schedule import Alternating, Sampled, Together
