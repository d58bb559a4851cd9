"""Widths of the sharpest edges by direction, overshoot at them, and steps at JPEG's blocks.

Widths are a simple form of the edge spread of ISO 12233 for edges of any content: the profile is
read across the edges, at most 22.5 degrees from its direction.
"""

import numpy as np

STEPS = {  # rows, columns; the directions in which blur widens the edges
    "horizontal": (0, 1),
    "vertical": (1, 0),
    "falling diagonal": (1, 1),
    "rising diagonal": (-1, 1),
}
DIRECTIONS = tuple(STEPS)
REACH = 7  # pixels of a profile on either side of the steepest step
PLATEAU = 3  # outermost pixels that give the levels of both sides
MIN_CONTRAST = 24.0  # levels
MIN_EDGES = 20  # for a width or an overshoot
MAX_EDGES = 4000  # read in each direction
SHARPEST = 0.1  # quantile of the widths, so that it does not depend on the number of edges
BLOCK = 8
SMOOTH = 12.0  # levels; larger steps are content, not borders of blocks
_GAUSSIAN = np.sqrt(2 * np.pi)  # contrast / steepest slope of an edge blurred by sigma 1


def measure_edges(
    channel: np.ndarray, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return the widths of the sharpest edges (4,) by direction, and the overshoot at edges.

    channel: regions (n, h, w), float32, 0..255. noise: its standard deviation.

    A width is the standard deviation, in pixels, of the Gaussian that blurs a step to an edge of
    this contrast and steepest slope: the 10 % quantile of all edges. The overshoot is a fraction of
    the contrast, from the mean profile of the sharpest quarter, mean of both sides; 0 without
    sharpening. Both are nan where there are too few edges.
    """
    widths, profiles = np.full(4, np.nan), []
    for index, step in enumerate(STEPS.values()):
        contrasts, lines = _read_profiles(channel, step, noise, rng)
        if len(lines) < MIN_EDGES:
            continue
        slopes = np.diff(lines, axis=1)[:, REACH]
        length = np.hypot(*step)
        edge_widths = length * contrasts / slopes / _GAUSSIAN
        widths[index] = np.quantile(edge_widths, SHARPEST)
        sharpest = edge_widths <= np.quantile(edge_widths, 0.25)
        low = lines[:, :PLATEAU].mean(1, keepdims=True)
        profiles.append(((lines - low) / contrasts[:, None])[sharpest])
    if not profiles:
        return widths, np.nan
    profile = np.concatenate(profiles).mean(0)
    side = slice(REACH + 1, -PLATEAU), slice(PLATEAU, REACH + 1)
    return widths, float((profile[side[0]].max() - 1 - profile[side[1]].min()) / 2)


def _read_profiles(
    channel: np.ndarray, step: tuple[int, int], noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the contrasts (k,) and the rising profiles (k, 2 REACH + 2) of edges in a direction."""
    height, width = channel.shape[1:]
    inner = slice(REACH + 1, height - REACH - 1), slice(REACH + 1, width - REACH - 1)

    def shift(count: int, direction: tuple[int, int] = step) -> np.ndarray:
        rows, columns = (
            slice(s.start + count * d, s.stop + count * d)
            for s, d in zip(inner, direction, strict=True)
        )
        return channel[:, rows, columns]

    slope = shift(1) - shift(0)
    steepness = np.abs(slope)
    across = (-step[1], step[0])
    along = np.abs(shift(1, across) - shift(-1, across)) / 2
    steepest = (steepness >= np.abs(shift(0) - shift(-1))) & (
        steepness > np.abs(shift(2) - shift(1))
    )
    limit = max(MIN_CONTRAST, 12 * noise) / REACH
    places = np.argwhere(steepest & (steepness > limit) & (along < 0.41 * steepness))
    if len(places) > MAX_EDGES:
        places = places[rng.choice(len(places), MAX_EDGES, replace=False)]
    offsets = np.arange(-REACH, REACH + 2)
    lines = channel[
        places[:, :1],
        places[:, 1:2] + inner[0].start + offsets * step[0],
        places[:, 2:] + inner[1].start + offsets * step[1],
    ]
    lines = np.where((lines[:, REACH] < lines[:, REACH + 1])[:, None], lines, lines[:, ::-1])
    low, high = lines[:, :PLATEAU], lines[:, -PLATEAU:]
    contrasts = high.mean(1) - low.mean(1)
    is_flat = np.maximum(np.ptp(low, axis=1), np.ptp(high, axis=1)) < 0.1 * contrasts + 3 * noise
    is_single = np.abs(np.diff(lines, axis=1)).sum(1) < 1.8 * contrasts + 6 * noise
    valid = (contrasts > max(MIN_CONTRAST, 12 * noise)) & is_flat & is_single
    return contrasts[valid], lines[valid]


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
