"""Runs programs in rounds: each round runs all of them once, in shuffled order, each in a new directory of its file system, and keeps the JSON object
that each prints. A figure is the median of its rounds."""
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIR = "@DIR@"  # stands in a command for the new directory


@dataclass
class Program:
    name: str
    command: list
    place: str = "disk"  # the file system of DIR: disk or memory
    most_rounds: int = 1000
    optional: bool = False  # may fail, and is then left out, with a line that says why
    read: Callable = dict  # makes of what it printed what is kept; a ValueError is a failure

    def shown(self):
        """The command for people, without this machine's paths."""
        return " ".join(str(word) for word in self.command).replace(f"{ROOT}/", "").replace(DIR, "DIR")


@dataclass
class Samples:
    """What the programs printed, a round each."""
    runs: dict = field(default_factory=dict)  # name → objects
    shown: dict = field(default_factory=dict)  # name → command for people
    skipped: dict = field(default_factory=dict)  # name → why
    failed: dict = field(default_factory=dict)  # the same, of those that may not fail

    def add(self, other):
        for name, mine in vars(self).items():
            mine.update(getattr(other, name))

    def all(self, name, *path):
        """Every sample of a figure: the object's field at `path`; of a list, all that it holds."""
        found = []
        for run in self.runs.get(name, []):
            for step in path:
                run = run.get(step) if run is not None else None
            found += run if isinstance(run, list) else [run] if run is not None else []
        return found

    def median(self, name, *path):
        found = self.all(name, *path)
        return statistics.median(found) if found else None

    def best(self, name, *path):
        """(key, figure) of the smallest among the figures below `path`, as (…, key, "wall_s"), or (None, None)."""
        keys = {key for run in self.runs.get(name, []) for key in run.get(path[0], {})}
        figures = [(self.median(name, path[0], key, *path[1:]), key) for key in sorted(keys)]
        figure, key = min(figures, default=(None, None))
        return key, figure


def last_object(text):
    """The last JSON object of the output that begins a line, whatever stands before it: fio warns there. The launcher tags a rank's lines."""
    text = re.sub(r"^\[rank \d+\] ", "", text, flags=re.MULTILINE)
    begin = ("\n" + text).rfind("\n{")
    if begin < 0:
        raise ValueError("no JSON object in the output")
    return json.loads(text[begin:])


def run_once(program, places, keep):
    """Hands what the program printed to `keep`; returns why it did not."""
    words = [str(word) for word in program.command]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=places[program.place]) as scratch:
        os.sync()  # nobody pays for what came before
        try:
            done = subprocess.run([word.replace(DIR, scratch) for word in words], capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
    if done.returncode:
        return f"exit code {done.returncode}: {(done.stderr.strip() or done.stdout.strip())[-400:]}"
    try:
        keep(program.read(last_object(done.stdout)))
    except ValueError as error:
        return f"{error}: {done.stdout.strip()[-400:]}"
    return None


def run(programs, places, rounds, say=lambda line: print(line, file=sys.stderr, flush=True)):
    samples = Samples(shown={program.name: program.shown() for program in programs})
    try:
        run_rounds(programs, places, rounds, samples, say)
    except KeyboardInterrupt:
        say("stopped: what was measured so far counts")
    return samples


def run_rounds(programs, places, rounds, samples, say):
    for number in range(rounds):
        out = samples.skipped | samples.failed
        due = [program for program in programs if number < program.most_rounds and program.name not in out]
        random.shuffle(due)
        for program in due:
            say(f"round {number + 1} of {rounds}: {program.name}")
            failure = run_once(program, places, samples.runs.setdefault(program.name, []).append)
            if failure:
                (samples.skipped if program.optional else samples.failed)[program.name] = failure
                say(f"{'skipped' if program.optional else 'FAILED'} {program.name}: {failure}")
