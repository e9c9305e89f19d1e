"""Draws series as SVG with matplotlib: text as text, the same bytes for the same input, a background of their own for dark pages."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402

import series  # noqa: E402

matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "modu", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
    "font.size": 9, "figure.facecolor": "white", "savefig.facecolor": "white", "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    # Okabe and Ito's colours, which colour-blind readers tell apart.
    "axes.prop_cycle": matplotlib.cycler(color=["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"],
                                         marker=["o", "s", "^", "D", "v", "P", "X"]),
    "lines.markersize": 4, "lines.linewidth": 1.4})


def save(figure, out):
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def draw_serving(document, out):
    panels = [("throughput", "output tokens a second"), ("ttft_ms", "TTFT p50, ms"), ("tpot_ms", "TPOT p50, ms")]
    drawn = series.serving(document)
    prompt, output = series.lengths(document)
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(12, 3.8))
    for axes, (metric, label) in zip(all_axes, panels):
        for server, points in drawn[metric].items():
            streams = [at for at, _ in points]
            line, = axes.plot(streams, [value.median for _, value in points], label=server)
            axes.fill_between(streams, [value.least for _, value in points], [value.most for _, value in points],
                              color=line.get_color(), alpha=0.15, linewidth=0)
        ticks = sorted({at for points in drawn[metric].values() for at, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(at) for at in ticks])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.set_xlabel("streams at a time")
        axes.set_ylabel(label)
    figure.suptitle("%d tokens in, %d out; %s; %s, commit %s" % (
        prompt, output, document["machine"], document["date"], document["commit"]), fontsize=9)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4)
    figure.tight_layout()
    save(figure, out)


def draw_roofline(documents, out):
    figure, all_axes = pyplot.subplots(1, len(documents), figsize=(5.5 * len(documents), 4.5), squeeze=False)
    for axes, limits in zip(all_axes[0], map(series.roofline, documents)):
        at = [intensity for points in limits.kernels.values() for _, intensity, _ in points]
        ridge = limits.peak / limits.read_rate
        ends = sorted({min(at) / 2, ridge, max(max(at), ridge) * 2})
        axes.plot(ends, [series.attainable(limits, each) / 1e9 for each in ends], color="#555555", marker="", linewidth=1)
        axes.text(2 * ends[0], series.attainable(limits, 1.4 * ends[0]) / 1e9, "memory, %.0f GB/s" % (limits.read_rate / 1e9),
                  color="#555555", fontsize=8, va="top")
        axes.text(ends[-1], limits.peak * 1.15 / 1e9, "%s, %.0f G operations/s" % (limits.instruction, limits.peak / 1e9),
                  color="#555555", fontsize=8, ha="right")
        axes.set_prop_cycle(None)
        for name, points in limits.kernels.items():
            line, = axes.plot([intensity for _, intensity, _ in points], [rate / 1e9 for _, _, rate in points], linewidth=0.8, label=name)
            for label, intensity, rate in points:
                axes.annotate(label, (intensity, rate / 1e9), xytext=(3, -8), textcoords="offset points", fontsize=6, color=line.get_color())
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.set_xlabel("operations a byte read")
        axes.set_ylabel("G operations a second")
        axes.set_title(limits.title, fontsize=9)
        axes.legend(fontsize=7)
    figure.tight_layout()
    save(figure, out)
