#!/usr/bin/env python3
"""Times stock's AdamW steps over the parameters of optim_bench, as plain tensors. Prints one JSON object.

usage: optim_stock.py [--threads 1] [--steps 10]   (with a Python that has torch)
"""
import argparse
import json
import time

import torch

WIDTH, VOCAB, LONGEST, LAYERS = 512, 4096, 512, 8
BLOCK = [(WIDTH,)] * 4 + [(3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,), (4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,)]
SHAPES = [(VOCAB, WIDTH), (LONGEST, WIDTH), *BLOCK * LAYERS, (WIDTH,), (WIDTH,), (VOCAB, WIDTH)]


def seconds(steps, **kind):
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer, found = torch.optim.AdamW(parameters, lr=1e-4, **kind), []
    for step in range(steps + 3):
        wall, cpu = time.perf_counter(), time.process_time()
        optimizer.step()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return {"wall_s": [wall for wall, _ in found[3:]], "cpu_s": [cpu for _, cpu in found[3:]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps({"parameters": sum(torch.Size(shape).numel() for shape in SHAPES), "fused": seconds(args.steps, fused=True),
                      "loop": seconds(args.steps, foreach=False)}))


if __name__ == "__main__":
    main()
