"""Steps at the borders of JPEG's 8x8 blocks."""

import numpy as np

BLOCK = 8
SMOOTH = 12.0  # levels; larger steps are content


def measure_blocking(channel: np.ndarray) -> np.ndarray:
    """Return how much larger steps are at block borders: (2,), between columns and between rows.

    channel: regions (n, h, w), float32, 0..255, that begin at multiples of 8. A value is the mean
    step at the borders of the grid, relative to that of all others, minus 1: about 0 without blocks.
    Flipping or cropping moves the grid. Therefore its position is found in one half of the regions,
    and the step measured in the other, so that the search adds no bias.
    """
    return np.array([_measure_columns(channel), _measure_columns(channel.swapaxes(1, 2))])


def _measure_columns(channel: np.ndarray) -> float:
    steps = np.abs(np.diff(channel, axis=2))
    is_smooth = steps < SMOOTH
    steps[~is_smooth] = 0
    phase = np.arange(steps.shape[2]) % BLOCK
    halves = []
    for start in (0, 1) if len(channel) > 1 else (0, 0):
        sums, counts = (
            np.bincount(phase, values[start::2].sum((0, 1)), BLOCK) for values in (steps, is_smooth)
        )
        halves.append(sums / counts.clip(min=1))
    ratios = []
    for search, means in (halves, halves[::-1]):
        border = int(search.argmax())
        rest = np.delete(means, border).mean()
        # A flat image has no steps at all; 0.05 levels keep the ratio finite.
        ratios.append((means[border] + 0.05) / (rest + 0.05) - 1)
    return float(np.mean(ratios))
