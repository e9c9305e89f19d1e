"""Reads what `benchmarks/serving/compare --json` and the kernel benchmarks' --json wrote, as series to draw. Python's own library only."""

import collections
import statistics

# Of each point the median, least and most of its rounds.
Value = collections.namedtuple("Value", "median least most")
# kernels: {name: [(label, operations a byte, operations a second)]}; limits in bytes and operations a second.
Roofline = collections.namedtuple("Roofline", "title read_rate instruction peak kernels")

SERVING_METRICS = {
    "throughput": lambda figures: figures["output_tokens_per_s"],
    "ttft_ms": lambda figures: figures["ttft_ms"]["p50"],
    "tpot_ms": lambda figures: figures["tpot_ms"]["p50"],
}


def lengths(document):
    """(prompt, output) tokens of the points that were taken at the most numbers of streams: the others measure something else."""
    streams = collections.defaultdict(set)
    for point in document["points"]:
        streams[point["prompt"], point["output"]].add(point["streams"])
    return max(streams, key=lambda key: (len(streams[key]), key))


def serving(document):
    """{metric: {server: [(streams, Value)]}}, servers in the file's order, streams rising; a point without a good round is left out."""
    wanted = lengths(document)
    series = {metric: {} for metric in SERVING_METRICS}
    for point in sorted(document["points"], key=lambda each: each["streams"]):
        if (point["prompt"], point["output"]) != wanted or not point["rounds"]:
            continue
        for metric, read in SERVING_METRICS.items():
            values = [read(figures) for figures in point["rounds"]]
            line = series[metric].setdefault(point["server"], [])
            line.append((point["streams"], Value(statistics.median(values), min(values), max(values))))
    order = list(dict.fromkeys(point["server"] for point in document["points"]))
    return {metric: {server: lines[server] for server in order if server in lines} for metric, lines in series.items()}


def roofline(document):
    kernels = {}
    for point in document["points"]:
        kernels.setdefault(point["kernel"], []).append(
            (point["label"], point["operations"] / point["bytes"], point["operations"] / point["seconds"]))
    return Roofline(document["title"], document["read_bytes_per_s"], document["instruction"], document["operations_per_s"], kernels)


def attainable(limits, intensity):
    """Operations a second that memory and instructions allow at so many operations a byte."""
    return min(limits.peak, limits.read_rate * intensity)
