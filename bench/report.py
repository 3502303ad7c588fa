#!/usr/bin/env python3
"""Draws what bench.py measured: DIR/results.md, a table, and DIR/*.png. With --docs, both go into docs/benchmarks.md and docs/img instead.

usage: report.py DIR [--no-plots] [--docs]
"""
import argparse
import json
import re
from pathlib import Path

from runner import ROOT

DOCS = ROOT / "docs"
MARKS = ("<!-- results: written by bench/report.py -->", "<!-- end of results -->")


def number(value, digits=3):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def shown_checks(row):
    """The target, and what was reached, part by part."""
    return "; ".join(f"{check['target']}: {'not measured' if check['value'] is None else number(check['value'])}" for check in row["checks"])


def cpu(row):
    found = [row.get("ours_cpu"), row.get("peer_cpu")]
    return ", ".join(number(figure) for figure in found) if any(found) else ""


def numbered_commands(rows):
    """command → its number; those of ceilings too."""
    found = dict.fromkeys(command for row in rows for command in (row["command"], row.get("ceiling_command")) if command)
    return {command: number for number, command in enumerate(found, 1)}


def table(rows, numbers):
    lines = ["| metric | unit | ours | CPU s: ours, peer | peer | peer is | ceiling | ratio | target: reached | met | commands |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: "not measured" if row["target"] else ""}[row["met"]]
        commands = ", ".join(str(numbers[row[field]]) for field in ("command", "ceiling_command") if row.get(field))
        cells = [row["metric"], row["unit"], number(row["ours"]), cpu(row), number(row["peer"]), row["peer_name"] or "", number(row["ceiling"]),
                 number(row["ratio"]), shown_checks(row), met, commands]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def text_of(rows, machine, pictures):
    numbers = numbered_commands(rows)
    commands = "\n".join(f"{number}. `{command}`" for command, number in numbers.items())
    shown = "\n".join(f"![{shows}]({name})" for name, shows in pictures.items())
    return f"{machine}\n\n{table(rows, numbers)}\n\n{shown}\n\nThe commands, DIR being a new directory:\n\n{commands}\n"


def write_docs(text):
    page = DOCS / "benchmarks.md"
    before, _, after = re.split(f"({re.escape(MARKS[0])}.*?{re.escape(MARKS[1])})", page.read_text(encoding="utf-8"), maxsplit=1, flags=re.S)
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="DIR")
    parser.add_argument("--no-plots", action="store_true")
    parser.add_argument("--docs", action="store_true")
    args = parser.parse_args()
    rows = json.loads((args.results / "results.json").read_text(encoding="utf-8"))
    pictures = {}
    if not args.no_plots:
        import plots
        pictures = plots.draw(rows, DOCS / "img" if args.docs else args.results)
    machine = (args.results / "machine.txt").read_text(encoding="utf-8").strip()
    if args.docs:
        write_docs(text_of(rows, machine, {f"img/{name}": shows for name, shows in pictures.items()}))
    else:
        text = text_of(rows, machine, pictures)
        (args.results / "results.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
