#!/usr/bin/env python3
"""Ranks as real processes: at every step of a save and of a load, each rank is killed, stopped or cut off from the others.

  process_faults.py --save-rank build/core/tests/ranks/save_rank [--jobs 6] [--all] [--only TEXT] [--ranks 3]
A case is "VERB rank R ACTION at POINT"; the points are those that a clean run passes (pausing_comm.h). The rank stops itself at its point, and
is then struck: killed (SIGKILL), stopped (SIGSTOP; woken when all else is over), or cut off by proxies that forward no more, a follower from
the leader, the leader from all followers ("cut": both ways, "deaf": nothing comes to the follower, "mute": nothing comes from it).
After each: the others have ended within the deadline + 5 s (else "hung"); what they threw names the rank that was struck ("unnamed"); the step
that was there, or the new one where a rank was told so, is the latest and right in every bit; a new job can save; and what a stopped rank does
when it wakes changes no file of any step, and it reports no step that is not its own ("lost").
Two jobs that save one step at once: one wins, the other is told that it exists.
The ordinary run takes a part of the cases, each point with two actions on a save and one on a load; --all or TESSERA_SCALE above 1 takes all.
"""
import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SILENCE_MS = 1500
DEADLINE_MS = 3000
LIMIT_S = DEADLINE_MS / 1000 + 5  # for the others to end once a rank is struck
PATIENCE_S = 60  # for what nobody disturbs, on a busy machine
CUTS = ("cut", "deaf", "mute")


class Proxy:
    """Forwards connections to a port, each way until it is told to stop."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.forward_up = self.forward_down = True
        self.pairs = {}  # socket → (the other side, whether it is the follower's)
        self.open = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.open:
            listening = [s for s, (_, up) in self.pairs.items() if (self.forward_up if up else self.forward_down)]
            ready, _, _ = select.select([self.listener, *listening], [], [], 0.02)
            for one in ready:
                if one is self.listener:
                    self.accept()
                elif one in self.pairs:
                    self.pass_on(one)
        for one in [self.listener, *self.pairs]:
            one.close()

    def accept(self):
        near, _ = self.listener.accept()
        if not (self.forward_up and self.forward_down):
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", self.target))
        self.pairs[near] = (far, True)
        self.pairs[far] = (near, False)

    def pass_on(self, one):
        other, up = self.pairs[one]
        if not (self.forward_up if up else self.forward_down):
            return
        try:
            data = one.recv(65536)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            del self.pairs[end]
            end.close()

    def cut(self, how):
        self.forward_up = how == "deaf"  # what it says still gets out
        self.forward_down = how == "mute"

    def close(self):
        self.open = False
        self.thread.join()


class Rank:
    """A process, and the lines that it has written."""

    def __init__(self, words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.changed = threading.Condition()
        self.over = False
        self.ended_at = None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        self.process.wait()
        with self.changed:
            self.over = True
            self.ended_at = time.monotonic()
            self.changed.notify_all()

    def wait_for(self, line, seconds):
        with self.changed:
            self.changed.wait_for(lambda: line in self.lines or self.over, seconds)
            return line in self.lines

    def wait_until(self, moment):
        """Whether it ended by then."""
        with self.changed:
            return self.changed.wait_for(lambda: self.over, max(0, moment - time.monotonic()))

    def go(self):
        try:
            os.write(self.process.stdin.fileno(), b"go\n")
        except BrokenPipeError:  # it is gone
            pass

    def strike(self, number):
        self.process.send_signal(number)

    def result(self):
        return self.lines[-1] if self.lines else f"nothing (exit {self.process.returncode})"

    def end(self):
        if not self.over:
            self.process.kill()
        self.thread.join()
        self.process.stdin.close()
        self.process.stdout.close()


class Place:
    """A directory with a root of steps, and the jobs that run on it."""

    def __init__(self, program, template=None):
        self.program = program
        self.scratch = tempfile.TemporaryDirectory(prefix="tessera-ranks-")
        self.path = pathlib.Path(self.scratch.name)
        self.root = self.path / "root"
        if template:
            shutil.copytree(template, self.root)
        else:
            self.root.mkdir()
        self.ranks = []
        self.proxies = []

    def start(self, verb, rank, size, invitation, *more):
        words = [self.program, verb, "--rank", str(rank), "--size", str(size), "--invitation", str(self.path / invitation), "--root", str(self.root)]
        one = Rank([*words, "--silence", str(SILENCE_MS), "--deadline", str(DEADLINE_MS), *more])
        self.ranks.append(one)
        return one

    def alone(self, verb, *more):
        """What a job of one rank that nobody disturbs says at the end."""
        one = self.start(verb, 0, 1, f"alone-{len(self.ranks)}", *more)
        one.wait_until(time.monotonic() + PATIENCE_S)
        return one.result()

    def put_behind_proxy(self, invitation, behind):
        """Waits for a leader's invitation and makes another, through a proxy, out of it."""
        source = self.path / invitation
        end = time.monotonic() + PATIENCE_S
        while not source.exists():
            if time.monotonic() > end:
                raise Failure("hung", "the leader invited nobody")
            time.sleep(0.005)
        address, token = source.read_text().split(" ")
        proxy = Proxy(int(address.rsplit(":", 1)[1]))
        self.proxies.append(proxy)
        part = self.path / (behind + ".part")
        part.write_text(f"tcp://127.0.0.1:{proxy.port} {token}")
        part.rename(self.path / behind)
        return proxy

    def steps(self):
        """A digest of every file of every step."""
        files = [f for step in self.root.glob("step-*") for f in step.rglob("*") if f.is_file()]
        return {str(f.relative_to(self.root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    def close(self):
        for one in self.ranks:
            one.end()
        for proxy in self.proxies:
            proxy.close()
        self.scratch.cleanup()


class Failure(Exception):
    def __init__(self, kind, what):
        super().__init__(what)
        self.kind = kind


def named(text):
    ranks = {int(n) for n in re.findall(r"\brank (\d+)\b", text)}
    return ranks | {0} if "the leader" in text else ranks


def expect_named(result, who, struck, also):
    """A rank that failed says because of whom: one of those that were struck, and nobody else but itself and `also`."""
    if not result.startswith("failed "):
        raise Failure("hung", f"rank {who} ended strangely: {result}")
    guilty = named(result)
    if not guilty & struck or guilty - struck - also - {who}:
        raise Failure("unnamed", f"rank {who} says: {result}")


def strike(victim, action, proxies):
    if action == "kill":
        victim.strike(signal.SIGKILL)
    elif action == "stop":
        victim.strike(signal.SIGSTOP)
    for proxy in proxies:
        proxy.cut(action)
    victim.go()


def check_latest(place, told):
    """The latest step is right; it is the one that a rank was told of."""
    latest = place.alone("load")
    if latest not in ("loaded 1", "loaded 2") or (told and latest != "loaded 2"):
        raise Failure("lost", f"then: {latest}" + (", though a rank saved 2" if told else ""))
    return int(latest.split()[1])


def run_case(program, template, size, verb, who, action, point):
    place = Place(program, template)
    try:
        goal = "saved 2" if verb == "save" else "loaded 1"
        behind = [r for r in range(1, size) if r == who or who == 0] if action in CUTS else []
        ranks = []
        for r in range(size):
            stop = ["--stop-at", point] if r == who else []
            ranks.append(place.start(verb, r, size, f"behind-{r}" if r in behind else "invitation", "--step", "2", *stop))
        proxies = [place.put_behind_proxy("invitation", f"behind-{r}") for r in behind]
        victim = ranks[who]
        if not victim.wait_for("at " + point, PATIENCE_S):
            raise Failure("hung", f"rank {who} never came there: {victim.result()}")
        strike(victim, action, proxies)
        end = time.monotonic() + LIMIT_S
        judged = [r for r in range(size) if r != who or action in CUTS]
        for r in judged:
            if not ranks[r].wait_until(end):
                raise Failure("hung", f"rank {r} has not ended after {LIMIT_S} s")
        for r in judged:
            if ranks[r].result() == goal:
                continue
            # Where a way is cut, either end is right to blame the other, and to tell the rest.
            ends = {who} if action not in CUTS else set(range(size)) if who == 0 else {0, who}
            expect_named(ranks[r].result(), r, {who} if r != who and who != 0 else ends, ends)
        told = verb == "save" and any(ranks[r].result() == goal for r in judged)
        latest = check_latest(place, told)
        after = place.alone("save", "--step", str(latest + 1), "--salt", "7")
        if after != f"saved {latest + 1}":
            raise Failure("lost", f"the next job: {after}")
        if action == "stop":
            wake(place, victim, goal, latest)
    finally:
        place.close()


def wake(place, victim, goal, latest):
    """The rank that was stopped goes on where its job is over and another has saved."""
    before = place.steps()
    victim.strike(signal.SIGCONT)
    if not victim.wait_until(time.monotonic() + LIMIT_S):
        raise Failure("hung", f"it has not ended {LIMIT_S} s after it woke")
    if victim.result() == "saved 2" and latest != 2:
        raise Failure("lost", "it says that it saved a step that another job had saved")
    if victim.result() != goal and not victim.result().startswith("failed "):
        raise Failure("hung", f"it ended strangely: {victim.result()}")
    after = place.steps()
    if before != after:
        raise Failure("lost", f"it changed {sorted(set(before.items()) ^ set(after.items()))}")
    if place.alone("load") != f"loaded {latest + 1}":
        raise Failure("lost", "after it woke the latest step is another")


def run_pair(program, template, _size, point, first):
    """Two jobs save one step at once, held at the same point, let go in one order or the other."""
    place = Place(program, template)
    try:
        jobs = [[place.start("save", r, 2, f"job-{j}", "--step", "2", "--salt", str(j), *(["--stop-at", point] if r == 0 else [])) for r in range(2)]
                for j in range(2)]
        for job in jobs:
            if not job[0].wait_for("at " + point, PATIENCE_S):
                raise Failure("hung", f"never came there: {job[0].result()}")
        for job in (jobs[first], jobs[1 - first]):
            job[0].go()
        end = time.monotonic() + LIMIT_S
        results = []
        for job in jobs:
            if not all(one.wait_until(end) for one in job):
                raise Failure("hung", "a job has not ended")
            said = {one.result() for one in job}
            if len(said) > 1:
                raise Failure("unnamed", f"ranks of one job disagree: {said}")
            results += said
        if sorted(r.split(" ")[1] if r.startswith("failed") else r for r in results) != ["exists", "saved 2"]:
            raise Failure("lost", f"two jobs: {results}")
        check_latest(place, True)
    finally:
        place.close()


def points_of(program, template, size, verb):
    """For each rank, what a clean run passes."""
    place = Place(program, template)
    try:
        ranks = [place.start(verb, r, size, "invitation", "--step", "2", "--trace") for r in range(size)]
        end = time.monotonic() + PATIENCE_S
        if not all(one.wait_until(end) and one.process.returncode == 0 for one in ranks):
            raise SystemExit(f"a clean run failed: {[one.lines for one in ranks]}")
        return [[line[5:] for line in one.lines if line.startswith("pass ") and line != "pass end"] for one in ranks]
    finally:
        place.close()


def cases_of(program, template, size, everything):
    cases = []
    for verb in ("save", "load"):
        for who, points in enumerate(points_of(program, template, size, verb)):
            if not everything and who > 1:
                continue  # followers are alike
            for i, point in enumerate(points):
                actions = ["kill", "stop", CUTS[i // 3 % len(CUTS)]]
                if everything:
                    actions = ["kill", "stop", *CUTS]
                else:
                    actions = [actions[(i + k) % 3] for k in range(2 if verb == "save" else 1)]
                for action in actions:
                    if point == "join.before" and who == 0 and action in CUTS:
                        continue  # there is nothing yet to be cut off from
                    cases.append((f"{verb} rank {who} {action} at {point}", run_case, (verb, who, action, point)))
    for point in ("start.before", "write.before", "publish.lead"):
        for first in (0, 1):
            cases.append((f"two jobs at {point}, {first} first", run_pair, (point, first)))
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save-rank", required=True)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    everything = args.all or float(os.environ.get("TESSERA_SCALE", "1")) > 1
    first = Place(args.save_rank)
    counts = {"hung": 0, "unnamed": 0, "lost": 0}
    try:
        if first.alone("save", "--step", "1") != "saved 1":
            raise SystemExit(f"no first step: {first.ranks[0].lines}")
        cases = [case for case in cases_of(args.save_rank, first.root, args.ranks, everything) if args.only in case[0]]

        def judge(case):
            name, run, words = case
            begin = time.monotonic()
            try:
                run(args.save_rank, first.root, args.ranks, *words)
            except Failure as failure:
                counts[failure.kind] += 1
                print(f"{failure.kind.upper()} {name}: {failure}", flush=True)
            return time.monotonic() - begin

        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            longest = max(pool.map(judge, cases), default=0)
        print(f"{time.monotonic() - begin:.0f} s, the longest case {longest:.1f} s")
    finally:
        first.close()
    print(f"process faults: {len(cases)} cases, {counts['hung']} hung, {counts['unnamed']} unnamed, {counts['lost']} lost")
    return 1 if any(counts.values()) or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
