"""The plots of the results, as small PNG files: io.png, planning.png, steps.png, targets.png."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS, PEER, CEILING, MISSED = "#1f6f8b", "#c9c9c9", "#e0a030", "#b03a2e"


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def bars(axis, title, unit, named, scale="linear"):
    """Horizontal bars from top to bottom: [(name, value, colour)]; what was not measured is left out."""
    named = [entry for entry in named if entry[1]]
    names, values, colours = zip(*named) if named else ((), (), ())
    drawn = axis.barh(names, values, color=colours)
    axis.bar_label(drawn, labels=[f"{value:.3g}" for value in values], padding=2, fontsize=7)
    axis.invert_yaxis()
    if named:
        axis.set_xscale(scale)
    axis.margins(x=0.15)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(unit, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def io(rows, path):
    """Seconds of saves and loads: ours, every peer, the ceiling."""
    wanted = ["save.disk.big", "save.disk.mid", "save.disk.small", "save.memory.big.1", "load.safetensors.big", "load.safetensors.mid", "load.safetensors.small"]
    found = [rows[name] for name in wanted if name in rows]
    figure, axes = plt.subplots(2, 4, figsize=(14, 5))
    for axis in axes.flat[len(found):]:
        axis.axis("off")
    for axis, row in zip(axes.flat, found):
        title = row["metric"].replace(", beside safetensors + copy", "")
        bars(axis, title, row["unit"], [("ceiling", row["ceiling"], CEILING), ("tessera", row["ours"], OURS),
                                        *((peer, figure, PEER) for peer, figure in sorted(row["others"].items(), key=lambda item: item[1] or 0))])
    save(figure, path)


def planning(rows, path):
    """CPU seconds of planning and metadata, ours beside stock's, on a logarithmic axis."""
    wanted = [("plan.cold", "plan, cold"), ("plan.described", "plan, from descriptions"), ("metadata.stock", "decode stock's .metadata")]
    figure, axis = plt.subplots(figsize=(7, 3))
    named = [entry for name, title in wanted if name in rows
             for entry in ((f"{title}: DCP", rows[name]["peer"], PEER), (f"{title}: tessera", rows[name]["ours"], OURS))]
    bars(axis, "planning and metadata of 256 ranks × 1,024 tensors", "CPU s", named, "log")
    save(figure, path)


def steps(rows, path):
    """Histograms of training steps, alone and while a save runs behind them."""
    found = [rows[name] for name in ("train.1", "train.2") if name in rows and rows[name]["histogram"]["alone"]]
    if not found:
        return
    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 3), squeeze=False)
    for axis, row in zip(axes[0], found):
        alone, during = row["histogram"]["alone"], row["histogram"]["during"]
        axis.hist([alone, during], bins=30, color=[PEER, OURS], label=["alone", "while a save runs"])
        axis.set_title(row["metric"], fontsize=9)
        axis.set_xlabel("ms", fontsize=8)
        axis.legend(fontsize=7)
    save(figure, path)


def targets(rows, path):
    """Every part of every target: how far from its bound; beyond 1 it is missed."""
    named = []
    for row in rows.values():
        for check in row["checks"]:
            if check["value"]:
                used = check["value"] / check["bound"] if check["target"].startswith("≤") else check["bound"] / check["value"]
                named.append((f"{row['id']}  {check['target']}", used, OURS if check["met"] else MISSED))
    figure, axis = plt.subplots(figsize=(9, 0.22 * len(named) + 1))
    bars(axis, "how much of each target is used up; red is missed", "1 is the target", named, "log")
    axis.axvline(1, color="black", linewidth=0.8)
    save(figure, path)


PLOTS = (("io", io, "Saves and loads: ours, the peers, the ceiling"), ("planning", planning, "Planning and metadata"),
         ("steps", steps, "Training steps, alone and while a save runs"), ("targets", targets, "How much of each target is used up"))


def draw(results, directory):
    """Returns {file name: what it shows} of those that there was something to draw for."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = {row["id"]: row for row in results}
    for name, plot, _ in PLOTS:
        (directory / f"{name}.png").unlink(missing_ok=True)
        plot(rows, directory / f"{name}.png")
    return {f"{name}.png": shows for name, _, shows in PLOTS if (directory / f"{name}.png").exists()}
