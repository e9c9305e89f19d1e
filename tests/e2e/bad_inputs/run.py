"""Sends every bad input to a running server and checks the right answer, then what must hold after each:

(a) the exact status in time, (b) an OpenAI-shaped error, (c) a normal request right after gives the same tokens,
(d) a stream that runs elsewhere delivers every token, (e) blocks, descriptors, threads and memory are back at their
baseline, (f) what was received has ended exactly once, (g) no sanitizer report (checked when the server stops).

    python3 tests/e2e/bad_inputs/run.py [ROW ...]
"""

import json
import os
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import tiny_gguf  # noqa: E402
from bad_inputs import rows_files, rows_json, rows_process, rows_routes, rows_streams, rows_text  # noqa: E402
from bad_inputs.pending import ELSEWHERE, PENDING  # noqa: E402
from modu_server import Server  # noqa: E402

NORMAL = {"prompt": "hello world", "max_tokens": 8, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
BACKGROUND_TOKENS = 300
MEMORY_SLACK_BYTES = 24 << 20


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
    """Descriptors, threads, memory and blocks of an idle server."""

    def __init__(self, server):
        self.server = server
        self.descriptors, self.threads, self.memory, self.held = self.read()

    def read(self):
        folder = "/proc/%d/" % self.server.process.pid
        samples = self.server.metrics()
        held = sum(value for name, value in samples.items() if name.startswith("modu_kv_blocks_held"))
        with open(folder + "statm") as statm:
            memory = int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        return len(os.listdir(folder + "fd")), len(os.listdir(folder + "task")), memory, held

    def holds(self):
        descriptors, threads, memory, held = self.read()
        return (descriptors <= self.descriptors and threads <= self.threads and held <= self.held and
                memory <= self.memory + MEMORY_SLACK_BYTES)

    def check(self, timeout_s=5):
        deadline = time.monotonic() + timeout_s
        while not self.holds():
            assert time.monotonic() < deadline, "not back at the baseline: %s, was %s" % (
                self.read(), (self.descriptors, self.threads, self.memory, self.held))
            time.sleep(0.05)


def check_conservation(server):
    """received = rejected + done + cancelled + failed + expired + in flight."""
    samples = server.metrics()
    received = sum(v for k, v in samples.items() if k.startswith("modu_requests_received_total"))
    ended = sum(v for k, v in samples.items() if k.startswith("modu_requests_ended_total"))
    in_flight = sum(v for k, v in samples.items() if k.startswith("modu_requests_in_flight"))
    assert received == ended + in_flight, "received %d, ended %d, in flight %d" % (received, ended, in_flight)


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


def run_case(case, server, expected_tokens, baseline):
    started = time.monotonic()
    if case.act:
        case.act(server)
    else:
        check_answer(case, *server.request(case.method, case.path, case.body, case.headers))
    took = time.monotonic() - started
    assert took <= case.within_s * float(os.environ.get("MODU_TEST_SLOWNESS", "1")), "took %.2f s" % took
    assert normal_answer(server) == expected_tokens, "a normal request afterwards gives other tokens"
    baseline.check()
    check_conservation(server)


def all_cases():
    for rows in (rows_json, rows_text, rows_routes, rows_streams, rows_files, rows_process):
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
        with Server(model, "--max-seqs", "8", "--kv-tokens", "8192", "--threads", "1") as server:
            server.model = model
            expected = normal_answer(server)
            alone = Background(server)
            alone.run()
            assert alone.failure is None, alone.failure
            for _ in range(3):
                normal_answer(server)
            time.sleep(0.3)
            baseline = Baseline(server)
            for case in all_cases():
                if wanted and case.row not in wanted:
                    continue
                reason, error = pending_reason(case), None
                try:
                    run_case(case, server, expected, baseline)
                except Exception as raised:  # noqa: BLE001 - each case is judged by itself
                    error = "%s: %s" % (type(raised).__name__, raised)
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
        covered = {case.row for case in all_cases()} | set(ELSEWHERE)
        missing = sorted(set(range(1, 109)) - covered - {93})
        if missing:
            failed += 1
            print("rows that nothing covers: %s" % missing)
    print("%d passed, %d failed, %d pending" % (passed, failed, pending))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
