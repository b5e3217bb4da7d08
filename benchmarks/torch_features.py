"""Features of the reference implementation in PyTorch; benchmarks/features.py runs this script.

    python torch_features.py NAME WEIGHTS.pth IMAGES.npy FEATURES.npy

NAME: such as efficientnet-lite0. IMAGES.npy: float32 (n, side, side, 3), normalised. Needs torch
and efficientnet_lite_pytorch.
"""

import sys

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet


def main() -> None:
    name, weights, images, target = sys.argv[1:]
    x = torch.from_numpy(np.load(images).transpose(0, 3, 1, 2).copy())
    # It pads for one size of images, which must be given.
    model = EfficientNet.from_name(name, image_size=x.shape[2])
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    with torch.no_grad():
        np.save(target, model.extract_features(x).mean((2, 3)).numpy())


if __name__ == "__main__":
    main()
