"""Figure of the loss of each layer in INT8."""

from realsr.deployment.table import SensitivityReport
from realsr.imaging import encode_uint8
from realsr.reporting.drawing import render


def draw_sensitivity(report: SensitivityReport) -> bytes:
    """Return a PNG: the loss of each layer alone in INT8, and the gain of float32 for the worst."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.22 * len(report.alone) + 1.6), dpi=110, layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(report.alone)
    start = min(report.alone.values()) - 3
    widths = [value - start for value in report.alone.values()]
    bars.barh(names, widths, left=start, color="#4c72b0")
    bars.invert_yaxis()
    bars.set_title("one layer alone in INT8: a shorter bar means more loss", fontsize=10)
    bars.set_xlabel("PSNR to float32, dB")
    bars.tick_params(axis="y", labelsize=7)
    times = [choice.time for choice in report.choices]
    curve.plot(times, [choice.similarity for choice in report.choices], "o-", color="#c44e52")
    for choice in report.choices:
        note = "all in INT8"
        if choice.kept:
            note = f"{choice.kept[0] if len(choice.kept) == 1 else len(choice.kept)} kept"
        point = choice.time, choice.similarity
        curve.annotate(note, point, (6, -10), textcoords="offset points", fontsize=8)
    curve.margins(0.25)
    curve.set_title(f"most sensitive layers kept in float32 ({report.method})", fontsize=10)
    curve.set_xlabel("time / float32")
    curve.set_ylabel("PSNR to float32, dB")
    curve.grid(alpha=0.3)
    return encode_uint8(render(figure), ".png")
