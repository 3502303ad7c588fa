#!/usr/bin/env python3
"""gpt_train's options: those of sharding, accumulation and memory leave the losses as they are, but for rounding; those of training change
them; what makes no sense is refused with exit code 2.

  options.py --launch build/dev/tests/support/launch/tessera-launch --train build/dev/examples/gpt/gpt_train
"""
import argparse
import re
import subprocess
import sys
import tempfile

MODEL = ["--layers", "2", "--width", "64", "--seq", "16", "--steps", "8"]
wrong = 0


def run(train, *words, model=MODEL):
    return subprocess.run([*train, *model, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False)


def trained(train, *words):
    done = run(train, *words)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def column(name, text):
    return [float(value) for value in re.findall(rf"\bstep=\d+ .*\b{name}=(\S+)", text)]


def losses(text):
    return column("loss", text)


def apart(one, other):
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))


def check(good, what):
    global wrong
    wrong += not good
    print(f"{'ok    ' if good else 'FAILED'} {what}", flush=True)


def those_that_leave_the_losses(train, launch):
    expected = losses(trained([train], "--ranks", "1"))
    four = ["--ranks", "4"]
    for words in (["--strategy", "full_shard"], ["--strategy", "shard_grad_op"], ["--strategy", "no_shard"],
                  ["--strategy", "hybrid_shard", "--shards", "2"], ["--strategy", "hybrid_shard_grad_op", "--shards", "2"],
                  ["--accumulate", "2"], ["--accumulate", "3"], ["--recompute"], ["--fused"], ["--prefetch", "0"], ["--prefetch", "3"],
                  ["--min-numel", "1000000"], ["--clip", "1e6"]):
        difference = apart(losses(trained([train], *four, *words)), expected)
        check(difference < 1e-5, f"4 ranks {' '.join(words)}: losses differ from one rank's by {difference:.1e}")
    processes = [launch, "--ranks", "2", "--", train]
    for transport in ("gloo", "shared_memory"):
        difference = apart(losses(trained(processes, "--transport", transport)), expected)
        check(difference < 1e-5, f"2 processes over {transport}: losses differ by {difference:.1e}")
    words = ["--strategy", "hybrid_shard", "--shards", "2", "--accumulate", "2", "--recompute", "--clip", "1e6"]
    processes = [launch, "--ranks", "4", "--", train]
    difference = apart(losses(trained(processes, *words)), expected)
    check(difference < 1e-5, f"4 processes {' '.join(words)}: losses differ by {difference:.1e}")
    difference = apart(losses(trained(processes, *words, "--param-dtype", "bfloat16")), expected)
    check(0 < difference < 2e-2, f"4 processes, in bfloat16 as well: losses differ by {difference:.1e}")
    half = apart(losses(trained([train], "--ranks", "2", "--param-dtype", "bfloat16")), expected)
    check(0 < half < 2e-2, f"bfloat16: losses differ by {half:.1e}")


def those_that_change_them(train):
    plain = trained([train], "--ranks", "2")
    for optimizer in ("adam", "sgd", "adagrad"):
        other = losses(trained([train], "--ranks", "2", "--optimizer", optimizer, "--lr", "1e-2"))
        check(other != losses(plain) and other[-1] < other[0], f"{optimizer}: from {other[0]:.4f} to {other[-1]:.4f}")
    clipped = trained([train], "--ranks", "2", "--optimizer", "sgd", "--clip", "0.01")
    unclipped = trained([train], "--ranks", "2", "--optimizer", "sgd")
    check(losses(clipped) != losses(unclipped) and len(column("gradient_norm", clipped)) == 8, "--clip clips, and says the norms")
    rates = {"constant": [1] * 8, "cosine": [1, 0.5 + 0.5 * 0.92387953], "linear": [1, 0.875, 0.75], "step": [1, 1, 0.1, 0.1, 0.01]}
    for schedule, begin in rates.items():
        lr = column("lr", trained([train], "--lr", "1e-3", "--schedule", schedule))
        check(all(abs(a - 1e-3 * b) < 1e-8 for a, b in zip(lr, begin)), f"{schedule}: {lr}")
    lr = column("lr", trained([train], "--lr", "1e-3", "--warmup", "4", "--schedule", "step", "--step-size", "2"))
    check(abs(lr[0] - 1e-5) < 1e-9 and lr[4:] == [1e-3, 1e-3, 1e-4, 1e-4], f"warm-up, then steps of two: {lr}")


def schedule_resumes(train):
    words = ["--ranks", "2", "--warmup", "3", "--schedule", "cosine", "--clip", "1", "--optimizer", "adagrad"]
    expected = trained([train], *words)
    with tempfile.TemporaryDirectory() as root:
        saving = [*words, "--dir", root, "--save-every", "4"]
        trained([train], *saving)
        subprocess.run(["rm", "-r", f"{root}/step-00000008"], check=True)
        again = trained([train], *saving, "--resume")
    for name in ("lr", "gradient_norm"):
        check(column(name, again) == column(name, expected)[4:], f"resumed at step 5, {name} is as if it had never stopped")
    # The sum of a step's losses is LibTorch's: on a busy machine its last bit is now and then another, without a trace in what follows.
    near = all(abs(a - b) < 1e-6 for a, b in zip(losses(again), losses(expected)[4:], strict=True))
    check(near, "resumed at step 5, the losses are as if it had never stopped")


def what_is_said(train):
    said = trained([train], "--ranks", "2", "--units", "--memory", "--param-dtype", "bfloat16", "--strategy", "shard_grad_op")
    check(said.count("shard_grad_op") == 3 and "computes in bfloat16" in said and "blocks.1._flat_param" in said, "--units lists the units")
    check("at the peak" in said.split("step=8 ")[1], "--memory says what they took, at the end")
    one = trained([train], "--ranks", "2", "--units", "--min-numel", "1000000")
    check("1 units" in one and "3 units" in said, "--min-numel leaves the blocks to the root")

    def peak(prefetch):
        said = run([train], "--ranks", "2", "--memory", "--prefetch", prefetch, model=["--layers", "6", "--width", "64", "--seq", "16", "--steps", "3"]).stdout
        return float(re.search(r"^whole parameters .* ([\d.]+) MiB at the peak", said, re.M)[1])

    peaks = [peak("0"), peak("1"), peak("3")]
    check(peaks == sorted(set(peaks)), f"--prefetch 0, 1 and 3 hold at most {peaks} MiB whole")


def what_is_refused(train, launch):
    for words in (["--strategy", "zero"], ["--strategy", "hybrid_shard"], ["--shards", "2"], ["--ranks", "4", "--strategy", "hybrid_shard", "--shards", "3"],
                  ["--strategy", "no_shard", "--prefetch", "2"], ["--transport", "gloo"], ["--accumulate", "0"], ["--clip", "0"], ["--warmup", "8"],
                  ["--step-size", "2"], ["--schedule", "exponential"], ["--optimizer", "lbfgs"], ["--optimizer", "1"], ["--param-dtype", "float16"], ["--resume"],
                  ["--nice", "3"], ["--device", "tpu"], ["--kind", "full"], ["--curve", "curve.png"], ["--width", "33"], ["--such"]):
        done = run([train], *words, model=[] if "--width" in words else MODEL)
        check(done.returncode == 2 and done.stdout.strip(), f"{' '.join(words)} is refused: {done.stdout.strip().splitlines()[0]}")
    done = run([train], "--device", "gpu")
    check(done.returncode in (0, 2), f"--device gpu trains, or says {done.stdout.strip().splitlines()[0]}")
    done = run([launch, "--ranks", "3", "--", train], "--strategy", "hybrid_shard", "--shards", "2")
    check(done.returncode == 2 and "error:" in done.stdout, "3 processes are refused 2 shards")
    check(run([train], "--help").returncode == 0, "--help is no error")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--train", required=True)
    args = parser.parse_args()
    what_is_refused(args.train, args.launch)
    what_is_said(args.train)
    schedule_resumes(args.train)
    those_that_change_them(args.train)
    those_that_leave_the_losses(args.train, args.launch)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
