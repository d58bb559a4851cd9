"""The loss of each layer in INT8, as a figure."""

from realsr.deployment.table import SensitivityReport
from realsr.imaging import encode_uint8
from realsr.reporting.drawing import render


def draw_sensitivity(report: SensitivityReport) -> bytes:
    """Return the figure as PNG: each layer alone in INT8, and what keeping the most costly ones gains."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.22 * len(report.alone) + 1.6), dpi=110, layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(report.alone)
    least = min(report.alone.values())
    bars.barh(
        names,
        [value - least + 3 for value in report.alone.values()],
        left=least - 3,
        color="#4c72b0",
    )
    bars.invert_yaxis()
    bars.set_title("one layer alone in INT8: the shorter, the more it costs", fontsize=10)
    bars.set_xlabel("PSNR to float32, dB")
    bars.tick_params(axis="y", labelsize=7)
    times = [choice.time for choice in report.choices]
    curve.plot(times, [choice.similarity for choice in report.choices], "o-", color="#c44e52")
    for choice in report.choices:
        count = len(choice.kept)
        note = {0: "all in INT8", 1: f"{choice.kept[0] if choice.kept else ''} kept"}.get(
            count, f"{count} kept"
        )
        curve.annotate(
            note, (choice.time, choice.similarity), (6, -10), textcoords="offset points", fontsize=8
        )
    curve.margins(0.25)
    curve.set_title(f"the most costly layers kept in float32 ({report.method})", fontsize=10)
    curve.set_xlabel("time, as a share of float32's")
    curve.set_ylabel("PSNR to float32, dB")
    curve.grid(alpha=0.3)
    return encode_uint8(render(figure), ".png")
