"""One closed loop over ContinuousBatchingPipeline.step(); prints figures as JSON on its last line. Runs in OpenVINO's own environment.

    closed_loop.py MODEL STREAMS PROMPT OUTPUT REQUESTS SEED THREADS
"""

import json
import os
import random
import resource
import statistics
import sys
import time

import numpy
import openvino
import openvino_genai

FIRST_ID, LAST_ID = 1000, 40000  # of random prompts, as modu-loadgen draws them


def machine_seconds():
    """Processor seconds that the whole machine has spent."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Loop:
    """Keeps `streams` requests running until all have been; when each token came, seconds since the loop began."""

    def __init__(self, pipeline, streams, prompt, output, random_source):
        self.pipeline, self.streams, self.prompt, self.random = pipeline, streams, prompt, random_source
        self.config = openvino_genai.GenerationConfig()
        self.config.max_new_tokens = output
        self.config.ignore_eos = True
        self.config.do_sample = False
        self.running = {}  # id: (handle, when sent, when each token came)
        self.done = []     # (when sent, when each token came) of those that ended

    def send(self, number):
        ids = [self.random.randint(FIRST_ID, LAST_ID) for _ in range(self.prompt)]
        handle = self.pipeline.add_request(number, openvino.Tensor(numpy.array([ids], dtype=numpy.int64)), self.config)
        self.running[number] = (handle, time.monotonic(), [])

    def run(self, requests):
        sent = min(self.streams, requests)
        for number in range(sent):
            self.send(number)
        while self.running:
            self.pipeline.step()
            now = time.monotonic()
            for number, (handle, began, times) in list(self.running.items()):
                while handle.can_read():
                    for each in handle.read().values():
                        times += [now] * len(each.generated_ids)
                if handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                    self.done.append((began, times))
                    del self.running[number]
                    if sent < requests:
                        self.send(sent)
                        sent += 1


def default_requests(streams):
    """As modu-loadgen."""
    return 10 if streams == 1 else 3 * streams if streams <= 16 else 2 * streams


def main(model, streams, prompt, output, requests, seed, threads):
    began = time.monotonic()
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = max(64, streams)
    scheduler.enable_prefix_caching = False
    pipeline = openvino_genai.ContinuousBatchingPipeline(model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
    ready_s = time.monotonic() - began
    source = random.Random(seed)
    Loop(pipeline, 1, prompt, output, source).run(2)

    requests = requests or default_requests(streams)
    loop = Loop(pipeline, streams, prompt, output, source)
    cpu, machine, began = sum(os.times()[:2]), machine_seconds(), time.monotonic()
    loop.run(requests)
    wall = time.monotonic() - began
    own = sum(os.times()[:2]) - cpu
    ttft = [1e3 * (times[0] - sent) for sent, times in loop.done]
    tpot = [1e3 * (times[-1] - times[0]) / (len(times) - 1) for _, times in loop.done]
    gaps = [1e3 * (b - a) for _, times in loop.done for a, b in zip(times, times[1:])]
    tokens = [at for _, times in loop.done for at in times]
    assert len(tokens) == requests * output, (len(tokens), requests, output)
    # As modu-loadgen: from every stream's first token until the first stream runs out of work.
    steady_begin = max(times[0] for _, times in loop.done[:streams])
    steady_end = min(times[-1] for _, times in loop.done[-streams:])
    steady = sum(steady_begin < at <= steady_end for at in tokens) / max(1e-9, steady_end - steady_begin)
    print(json.dumps({
        "output_tokens_per_s": len(tokens) / wall, "steady_tokens_per_s": steady, "ttft_ms": {"p50": statistics.median(ttft)},
        "tpot_ms": {"p50": statistics.median(tpot)}, "itl_ms": {"max": max(gaps)}, "client_cores": 0.0, "server_cores": own / wall,
        "other_cores": max(0.0, machine_seconds() - machine - own) / wall,
        "server_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "ready_s": ready_s}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
