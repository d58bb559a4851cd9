"""The dense blocks of an RRDB in the Winograd domain, in float32 on a CPU.

All convolutions of a dense block read the same maps. Each map is transformed once, when the first
convolution reads it, and later ones read it in the transformed domain: the transform, which costs
Winograd's convolution a good part of its gain, is paid for 64 + 4 x 32 channels instead of for
64 + 96 + 128 + 160 + 192. A thread takes blocks of tiles, and for each transforms the newest map,
multiplies, transforms back, and adds bias, activation or residual before it takes the next.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor, nn

from realsr.inference.winograd_kernels import PANEL, TILES, convolve, plane_size, transform_weights
from realsr.networks.rrdb import RRDB


class WinogradTrunk(nn.Module):
    """The residual-in-residual blocks of a network on the CPU whose widths `suits` accepts.

    The values are those of `RRDB.run_trunk` within a relative error of 1e-5. They do not depend on
    the number of threads, which is torch's.
    """

    def __init__(self, network: RRDB) -> None:
        super().__init__()
        self.features, _, self.growth = network.size
        self.blocks = [
            [
                [
                    (transform_weights(conv.weight.detach().numpy()), conv.bias.detach().numpy())
                    for conv in cast(Any, dense).children()
                ]
                for dense in block.children()
            ]
            for block in network.RRDB_trunk
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(N,features,h,w) -> the same shape, channels-last."""
        count, _, height, width = x.shape
        rows, columns = -(-height // 4), -(-width // 4)
        threads = torch.get_num_threads()
        shape = (count, 4 * rows + 2, 4 * columns + 2)
        # Allocated by torch, which measures the memory that a tile needs.
        images = [torch.zeros(*shape, self.features) for _ in range(4)]
        images[0][:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
        features = [image.numpy() for image in images]
        hidden = [torch.zeros(*shape, self.growth).numpy() for _ in range(2)]
        blocks = -(-count * rows * columns // TILES)
        maps = torch.zeros(blocks, 36 * plane_size(self.features + 4 * self.growth)).numpy()
        products = [torch.zeros(TILES, 36, self.features).numpy() for _ in range(threads)]
        counter = torch.zeros(1, dtype=torch.int64).numpy()
        outer = inner = 0  # the inputs of the present block and dense block among `features`
        with ThreadPoolExecutor(threads) as pool:
            for block in self.blocks:
                for number, dense in enumerate(block):
                    free = next(i for i in range(4) if i not in (outer, inner))
                    newest, start = features[inner], 0
                    for k, (weights, bias) in enumerate(dense):
                        is_last = k == len(dense) - 1
                        result = features[free] if is_last else hidden[k % 2]
                        residual = is_last * (1 + (number == len(block) - 1))
                        counter[0] = 0
                        arguments = (
                            *(counter, newest, maps, start, weights, bias, result),
                            *(height, width, features[inner], features[outer], residual),
                        )
                        jobs = [pool.submit(convolve, part, *arguments) for part in products[1:]]
                        convolve(products[0], *arguments)
                        for job in jobs:
                            job.result()
                        newest, start = result, start + newest.shape[3]
                    inner = free
                outer = inner
        trunk = images[inner][:, 1 : height + 1, 1 : width + 1].permute(0, 3, 1, 2)
        return trunk.contiguous(memory_format=torch.channels_last)


def suits(network: RRDB) -> bool:
    """Return whether the network's widths are multiples of the columns of a matrix product."""
    features, _, growth = network.size
    return features % PANEL == growth % PANEL == 0
