"""Make the small files of this folder from the originals; needs numpy only.

python examples/data/make_subsets.py fashion train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz
python examples/data/make_subsets.py speakers fsdd_logmel32.npz
"""

import gzip
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
IMAGES = 7500
RECORDINGS = 25
#: a log-mel value v is kept as round(8 v): steps of 1/8, from -16 to 15.875
STEPS = 8


def fashion(images: str, labels: str) -> dict[str, np.ndarray]:
    """The first 7,500 of the 60,000 training images of Fashion-MNIST, in the original order."""
    x = np.frombuffer(gzip.decompress(Path(images).read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    y = np.frombuffer(gzip.decompress(Path(labels).read_bytes()), np.uint8, offset=8)
    return {"x": x[:IMAGES], "y": y[:IMAGES]}


def speakers(path: str) -> dict[str, np.ndarray]:
    """The recordings 0 to 24 of the 50 of each speaker and digit, in one byte a value."""
    with np.load(path, allow_pickle=False) as file:
        kept = file["index"] < RECORDINGS
        x = np.round(file["x"][kept].astype(np.float32) * STEPS).clip(-128, 127).astype(np.int8)
        names = {name: file[name][kept].astype(np.uint8) for name in ("digit", "speaker", "index")}
        return {"x": x, **names, "speaker_names": file["speaker_names"]}


if __name__ == "__main__":
    make = {"fashion": fashion, "speakers": speakers}[sys.argv[1]]
    target = {"fashion": "fashion_mnist_7500.npz", "speakers": "fsdd_1500.npz"}[sys.argv[1]]
    np.savez_compressed(HERE / target, **make(*sys.argv[2:]))
