#!/usr/bin/env python3
"""Draws some milliseconds of a trace (--trace of our programs): a row a thread, a bar a span, its name in it where there is room.

usage: draw_trace.py TRACE PNG [--from MS] [--to MS] [--only TEXT]   (with a Python that has matplotlib; --only: rows whose title has it)
"""
import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402, pylint: disable=wrong-import-position

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def rows_of(trace):
    """title → [(name, begin ms, length ms)], in the order of the trace."""
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    titles = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    rows = {title: [] for _, title in sorted(titles.items())}
    for event in events:
        if event["ph"] == "X":
            rows[titles[event["tid"]]].append((event["name"], event["ts"] / 1e3, event["dur"] / 1e3))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--from", type=float, default=0, dest="begin")
    parser.add_argument("--to", type=float)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    rows = {title: spans for title, spans in rows_of(json.loads(args.trace.read_text(encoding="utf-8"))).items() if args.only in title}
    end = args.to or max(begin + length for spans in rows.values() for _, begin, length in spans)
    width = end - args.begin
    figure, axes = plt.subplots(figsize=(14, 0.6 * len(rows) + 0.8))
    colours = {}
    for place, (title, spans) in enumerate(rows.items()):
        for name, begin, length in spans:
            if begin + length < args.begin or begin > end:
                continue
            kind = name.split(" ")[0]
            colour = colours.setdefault(kind, COLOURS[len(colours) % len(COLOURS)])
            axes.barh(place, length, left=begin - args.begin, height=0.7, color=colour, edgecolor="white", linewidth=0.5)
            if length > width / 60:
                short = name.partition(" ")[2].removesuffix("_flat_param").rstrip(".")
                short = short or ("root" if " " in name else "")
                axes.text(begin - args.begin + length / 2, place, short, ha="center", va="center", fontsize=6, color="white", clip_on=True)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, width)
    axes.set_xlabel("ms")
    axes.legend(handles=[plt.Rectangle((0, 0), 1, 1, color=colour, label=kind) for kind, colour in colours.items()], loc="upper center",
                bbox_to_anchor=(0.5, 1 + 0.6 / len(rows)), ncols=len(colours), frameon=False, fontsize=8)
    figure.savefig(args.picture, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
