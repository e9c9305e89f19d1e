"""Sends every bad input to a running server and checks the right answer, then what must hold after each:

(a) the exact status in time, (b) an OpenAI-shaped error, (c) a normal request right after gives the same tokens,
(d) a stream that runs elsewhere delivers every token, (e) blocks, descriptors, threads and memory are back at their
baseline, (f) what was received has ended exactly once, (g) no sanitizer report (checked when the server stops).

    python3 tests/e2e/bad_inputs/run.py [ROW ...]
"""

import json
import os
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import tiny_gguf  # noqa: E402
from bad_inputs import rows_files, rows_grpc, rows_json, rows_process, rows_routes, rows_streams, rows_text  # noqa: E402
from bad_inputs.case import CHAT, COMPLETION  # noqa: E402
from bad_inputs.pending import ELSEWHERE, PENDING  # noqa: E402
from modu_server import Server  # noqa: E402

NORMAL = {"prompt": "hello world", "max_tokens": 8, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
BACKGROUND_TOKENS = 300
SLOWNESS = float(os.environ.get("MODU_TEST_SLOWNESS", "1"))
# Live bytes wander by what scratch, label values and gRPC's threads grow to, over all the rows together: 10 KB where the
# warm-up met it all, 57 KB where a flood woke more threads than it had.
LIVE_SLACK_BYTES = 96 << 10
# The allocator's thread caches count as live: without them the figure is exact.
EXACT_HEAP = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def normal_answer(server):
    status, answer = server.post_json("/v1/completions", NORMAL)
    assert status == 200, answer
    return answer["choices"][0]["token_ids"]


class Background(threading.Thread):
    """A long stream that the bad inputs must not disturb."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.tokens, self.failure = server, [], None

    def run(self):
        body = {"prompt": "an", "max_tokens": BACKGROUND_TOKENS, "temperature": 0, "ignore_eos": True, "stream": True,
                "return_token_ids": True}
        try:
            status, _, data = self.server.post("/v1/completions", body)
            assert status == 200, data
            events = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
            assert events[-1] == "[DONE]", events[-1]
            for event in events[:-1]:
                for choice in json.loads(event)["choices"]:
                    self.tokens += choice.get("token_ids") or []
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            self.failure = error


class Baseline:
    """Blocks, descriptors, threads and live bytes of an idle server, as it counts them itself."""

    COUNTERS = {"modu_kv_blocks_held": 0, "process_open_fds": 0, "process_threads": 0,
                "modu_process_live_bytes": LIVE_SLACK_BYTES}

    def __init__(self, server):
        self.server = server
        self.values = self.read()

    def read(self):
        samples = self.server.metrics()
        return {counter: sum(value for name, value in samples.items() if name.split("{")[0] == counter)
                for counter in self.COUNTERS}

    def beyond(self):
        """What is not back, as text."""
        now = self.read()
        return ", ".join("%s is %d, was %d" % (counter, now[counter], self.values[counter])
                         for counter, slack in self.COUNTERS.items() if now[counter] > self.values[counter] + slack)

    def check(self, timeout_s=5):
        deadline = time.monotonic() + timeout_s * SLOWNESS
        while self.beyond():
            assert time.monotonic() < deadline, "not back at the baseline: " + self.beyond()
            time.sleep(0.05)


def warm_up(server):
    """Everything that is made once, and then kept: label values, the prefix cache's entries, the threads' arenas."""
    for ids in range(3, 43):
        server.post_json("/v1/completions", {"prompt": [ids] * 500, "max_tokens": 2})
    calls = [case for case in all_cases() if case.act is None and len(str(case.body)) < 100_000]
    for case in calls[::3]:
        server.request(case.method, case.path, case.body, case.headers)
    rows_grpc.warm_up(server)


def wait_until_still(server, timeout_s=30):
    """The library gives back what a flood took bit by bit."""
    deadline, values, same = time.monotonic() + timeout_s, None, 0
    while same < 10 and time.monotonic() < deadline:
        before, values = values, Baseline(server).values
        same = same + 1 if values == before else 0
        time.sleep(0.1)


class Counts:
    """received = rejected + done + cancelled + failed + expired + in flight, and each call ends once."""

    def __init__(self, server):
        samples = server.metrics()

        def total(counter):
            return sum(value for name, value in samples.items() if name.split("{")[0] == counter)

        self.received = total("modu_requests_received_total")
        self.ended = total("modu_requests_ended_total")
        in_flight = total("modu_requests_in_flight")
        assert self.received == self.ended + in_flight, "received %d, ended %d, in flight %d" % (
            self.received, self.ended, in_flight)


def is_generation(case):
    return case.path in (CHAT, COMPLETION) and case.method == "POST"


def check_answer(case, status, headers, data):
    assert status in case.status, "status %d, not one of %s: %.300r" % (status, case.status, data)
    if status < 400:
        return
    error = json.loads(data)["error"]
    assert set(error) >= {"message", "type", "param", "code"} and error["message"], error
    if case.param:
        assert error["param"] and error["param"].startswith(case.param), error
    if case.code:
        assert error["code"] == case.code, error
    for word in case.says:
        assert word in error["message"], error
    assert "/tmp" not in error["message"] and "0x" not in error["message"], error


def sent_until_in_time(case, server):
    """How often it was sent. One that takes too long is sent again, twice at most: a server that is slow is slow again,
    a machine that was busy elsewhere is not."""
    for times_sent in (1, 2, 3):
        started = time.monotonic()
        if case.act:
            case.act(server)
        else:
            check_answer(case, *server.request(case.method, case.path, case.body, case.headers))
        took = time.monotonic() - started
        if took <= case.within_s * SLOWNESS:
            return times_sent
    raise AssertionError("took %.2f s" % took)


def run_case(case, server, expected_tokens, baseline):
    before = Counts(server)
    times_sent = sent_until_in_time(case, server)
    assert normal_answer(server) == expected_tokens, "a normal request afterwards gives other tokens"
    baseline.check()
    after = Counts(server)
    assert after.received == after.ended, "idle, and %d calls have not ended" % (after.received - after.ended)
    if case.act is None:
        calls = 1 + times_sent * is_generation(case)
        assert after.ended - before.ended == calls, "%d terminal increments for %d calls" % (
            after.ended - before.ended, calls)


def all_cases():
    for rows in (rows_json, rows_text, rows_routes, rows_streams, rows_grpc, rows_files, rows_process):
        yield from rows.cases()


def pending_reason(case):
    return PENDING.get((case.row, case.title), PENDING.get(case.row))


def main():
    wanted = {int(argument) for argument in sys.argv[1:]}
    failed = passed = pending = 0
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "tiny.gguf")
        with open(model, "wb") as out:
            out.write(tiny_gguf.tiny_gguf())
        with Server(model, "--max-seqs", "8", "--kv-tokens", "8192", "--threads", "1",
                    env=EXACT_HEAP) as server:
            server.model = model
            expected = normal_answer(server)
            alone = Background(server)
            alone.run()
            assert alone.failure is None, alone.failure
            warm_up(server)
            for _ in range(3):
                normal_answer(server)
            wait_until_still(server)
            baseline = Baseline(server)
            for case in all_cases():
                if wanted and case.row not in wanted:
                    continue
                reason, error = pending_reason(case), None
                try:
                    run_case(case, server, expected, baseline)
                except Exception as raised:  # noqa: BLE001 - each case is judged by itself
                    error = "%s: %s" % (type(raised).__name__, raised)
                if "MODU_E2E_VERBOSE" in os.environ:
                    print("row %d, %s: live %+d" % (case.row, case.title,
                          baseline.read()["modu_process_live_bytes"] - baseline.values["modu_process_live_bytes"]))
                if server.process.poll() is not None:
                    print("row %d, %s: THE SERVER DIED\n%s" % (case.row, case.title, server.log_text()[-3000:]))
                    return 1
                if error and reason:
                    pending += 1
                elif error:
                    failed += 1
                    print("row %d, %s: %s" % (case.row, case.title, error[:600]), flush=True)
                elif reason:
                    failed += 1
                    print("row %d, %s: passes, but is listed as pending (%s)" % (case.row, case.title, reason))
                else:
                    passed += 1
            disturbed = Background(server)
            disturbed.start()
            for case in list(rows_json.cases())[:40]:
                if case.act is None and len(str(case.body)) < 100_000:
                    server.request(case.method, case.path, case.body, case.headers)
            disturbed.join()
            if disturbed.failure or disturbed.tokens != alone.tokens:
                failed += 1
                print("the stream beside the bad inputs was disturbed: %s" % disturbed.failure)
    if not wanted:
        covered = set(ELSEWHERE)
        for case in all_cases():  # a title ends in the other rows that the case speaks for
            covered |= {case.row} | {int(number) for number in re.findall(r"\((\d+)\)", case.title)}
        missing = sorted(set(range(1, 109)) - covered)
        if missing:
            failed += 1
            print("rows that nothing covers: %s" % missing)
    print("%d passed, %d failed, %d pending" % (passed, failed, pending))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
