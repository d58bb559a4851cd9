"""How the kernels of a folder are estimated, whatever the method."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from realsr.core.ranges import Choice, Range
from realsr.kernels.health import HealthGates
from realsr.kernels.kernelgan import KernelGANConfig
from realsr.kernels.spectral import SpectralConfig


@dataclass
class KernelsConfig(KernelGANConfig):
    """How the kernels of a folder are estimated, and which are kept.

    method: `kernelgan` or `spectral`; what only KernelGAN has (iterations, batch, seeds, …) is then not used.
    batch: estimates trained side by side; None: as many as fit into half of the free memory, 32 at most.
    device: `auto` is a GPU where there is one, each shard on the next of several.
    seeds: estimates a photo; combine: what is made of several, `medoid` or `mean`.
    gates: which kernels are kept apart as unsound; None: no gate at all.
    """

    method: Annotated[str, Choice("kernelgan", "spectral")] = "kernelgan"
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    batch: Annotated[int, Range(1)] | None = None
    device: str = "auto"
    seeds: Annotated[int, Range(1)] = 1
    combine: Annotated[str, Choice("medoid", "mean")] = "mean"
    gates: HealthGates | None = field(default_factory=HealthGates)

    def facts(self) -> dict[str, Any]:
        """Return what kernels depend on: gates only sort them, the others are about speed."""
        if self.method == "spectral":
            return {"method": self.method, "frame": self.frame, **asdict(self.spectral)}
        dropped = {"batch", "device", "gates", "spectral"} | ({"combine"} if self.seeds == 1 else set())
        return {key: value for key, value in asdict(self).items() if key not in dropped}
