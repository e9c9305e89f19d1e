"""The floor under a prompt of the default model: what AMX's tile products alone, each with a load, take of it on this machine in this
very second, by build/tile_floor_benchmark. In a virtual machine it changes by the minute, and what is measured changes with it. Another
process of this machine does not show in it: a sample lasts 0.1 ms, and few are interrupted."""

import os
import subprocess

from peers.http import ROOT

PROGRAM = os.path.join(ROOT, "build", "tile_floor_benchmark")
SECONDS = 1
WANTED = 8  # times llama-server's prompts on the same file, of the AMX class
KEY = "tile_floor_ms"  # in a run's figures: [{p10, p50, p90} just before it, the same just after]


def floor_ms(tokens):
    """{p10, p50, p90} of a prompt's ms; None where the program is not built or the machine has no AMX."""
    try:
        done = subprocess.run([PROGRAM, str(SECONDS), str(tokens)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    cells = done.stdout.split("| a prompt of ")[1].split("| with a load each | ")[1].split(" | ")
    return {name: float(cell.rstrip("| \n")) for name, cell in zip(("p10", "p50", "p90"), cells)}


def around(measure, tokens):
    """The figures that measure() returns, and the floor around it where it can be had."""
    before = floor_ms(tokens)
    figures = measure()
    after = before and floor_ms(tokens)
    return {**figures, KEY: [before, after]} if after else figures


def shown(figures):
    """A run's first token and floor, as cells."""
    if figures is None:
        return "failed", "-"
    return "%.0f" % figures["ttft_ms"]["p50"], " / ".join("%.0f" % floor["p50"] for floor in figures.get(KEY, [])) or "-"


def rows(servers):
    """The report's table, of {server: {round: figures}} with Modu first; nothing where no floor was measured."""
    if not any(KEY in figures for by_round in servers.values() for figures in by_round.values()):
        return
    (modu, ours), *peers = servers.items()
    yield ""
    yield ("The floor of the prompt, round by round: what tile products alone, each with a load, take of it, medians of %d s before / after "
           "a run; ms:" % SECONDS)
    yield ""
    yield "| round | server | TTFT p50 | floor around it | TTFT / %d | %s's TTFT p50 | %s's floor |" % (WANTED, modu, modu)
    yield "|--:|---|--:|--:|--:|--:|--:|"
    for number in sorted(set().union(*servers.values())):
        us = shown(ours.get(number))
        yield "| %d | %s | %s | %s | | | |" % (1 + number, modu, *us)
        for name, by_round in peers:
            figures = by_round.get(number)
            wanted = "%.0f" % (figures["ttft_ms"]["p50"] / WANTED) if figures else "-"
            yield "| %d | %s | %s | %s | %s | %s | %s |" % (1 + number, name, *shown(figures), wanted, *us)
