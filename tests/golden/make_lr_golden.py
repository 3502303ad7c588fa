#!/usr/bin/env python3
"""Writes tessera/fsdp/lr_golden.h: the learning rates that stock's schedulers give, step by step, from 0.1.

Run it with the Python of the virtual environment, from the root of the repository:
    .venv/bin/python tests/golden/make_lr_golden.py > tessera/fsdp/lr_golden.h
Nothing needs it at run time; lr_schedule_test.cpp compares.
"""
import warnings

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR, StepLR

LR, STEPS = 0.1, 21


def warmed_up(optimizer, then):
    return SequentialLR(optimizer, [LinearLR(optimizer, start_factor=0.01, end_factor=1, total_iters=5), then], milestones=[5])


CASES = {
    "constant": lambda o: ConstantLR(o, factor=0.25, total_iters=4),
    "linear": lambda o: LinearLR(o, start_factor=0.2, end_factor=0.8, total_iters=7),
    "cosine": lambda o: CosineAnnealingLR(o, T_max=20, eta_min=0.1 * LR),
    "step": lambda o: StepLR(o, step_size=3, gamma=0.5),
    "warmup_constant": lambda o: warmed_up(o, ConstantLR(o, factor=1)),
    "warmup_cosine": lambda o: warmed_up(o, CosineAnnealingLR(o, T_max=15, eta_min=0.1 * LR)),
    "warmup_linear": lambda o: warmed_up(o, LinearLR(o, start_factor=1, end_factor=0.1, total_iters=15)),
    "warmup_step": lambda o: warmed_up(o, StepLR(o, step_size=4, gamma=0.5)),
}


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    schedule, found = make(optimizer), []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def main():
    warnings.simplefilter("ignore")
    print("// tessera/fsdp/lr_golden.h: learning rates of stock's schedulers, step by step.")
    print(f"// Written by tests/golden/make_lr_golden.py with torch {torch.__version__.split('+')[0]}. Not for editing.")
    print("#pragma once\n\n#include <map>\n#include <string>\n#include <vector>\n\nnamespace tessera {\n\n// clang-format off")
    print(f"inline constexpr double lr_golden_base = {LR};\n")
    print("inline const std::map<std::string, std::vector<double>> lr_golden = {")
    for name, make in CASES.items():
        shown = [f"{rate!r}" for rate in rates(make)]
        lines = [", ".join(shown[i : i + 6]) for i in range(0, len(shown), 6)]
        print(f'    {{"{name}",\n     {{' + ",\n      ".join(lines) + "}},")
    print("};\n// clang-format on\n\n}  // namespace tessera")


if __name__ == "__main__":
    main()
