#!/usr/bin/env python3
"""Writes tessera/fsdp/optim_golden.h: what stock's for-loop optimizers make of a fixed parameter and fixed gradients.

Run it with the Python of the virtual environment, from the root of the repository:
    .venv/bin/python tests/golden/make_optim_golden.py > tessera/fsdp/optim_golden.h
Nothing needs it at run time; optim_test.cpp compares bit for bit.
"""
import torch

SIZES = {"p0": 15, "p1": 1, "p2": 0, "p3": 24, "p4": 3}
NUMEL, STEPS = sum(SIZES.values()), 4

ADAM = dict(lr=0.02, betas=(0.85, 0.97), weight_decay=0.05)
ADAGRAD = dict(lr=0.05, lr_decay=0.02, weight_decay=0.03, initial_accumulator_value=0.25, eps=1e-6)
# Name, optimizer, options of all, options of p1 and p3 apart. "_double": of float64.
CASES = [
    ("adamw", torch.optim.AdamW, dict(), {}),
    ("adamw_amsgrad", torch.optim.AdamW, dict(lr=0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, amsgrad=True), {}),
    ("adamw_maximize", torch.optim.AdamW, dict(lr=0.02, weight_decay=0.0, maximize=True), {}),
    ("adamw_groups", torch.optim.AdamW, dict(lr=0.02), dict(weight_decay=0.0, betas=(0.4, 0.9))),
    ("adamw_double", torch.optim.AdamW, dict(lr=0.03, amsgrad=True), dict(weight_decay=0.0)),
    ("adam", torch.optim.Adam, ADAM, {}),
    ("adam_groups", torch.optim.Adam, dict(ADAM, amsgrad=True), dict(lr=0.01, weight_decay=0.0)),
    ("adam_double", torch.optim.Adam, dict(ADAM, maximize=True), {}),
    ("sgd", torch.optim.SGD, dict(lr=0.1), {}),
    ("sgd_decay", torch.optim.SGD, dict(lr=0.1, weight_decay=0.05, maximize=True), {}),
    ("sgd_momentum", torch.optim.SGD, dict(lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01), {}),
    ("sgd_nesterov", torch.optim.SGD, dict(lr=0.05, momentum=0.9, nesterov=True), {}),
    ("sgd_groups", torch.optim.SGD, dict(lr=0.05, momentum=0.9), dict(lr=0.1, momentum=0.8, dampening=0.2)),
    ("sgd_double", torch.optim.SGD, dict(lr=0.05, momentum=0.9, nesterov=True), {}),
    ("adagrad", torch.optim.Adagrad, dict(), {}),
    ("adagrad_decay", torch.optim.Adagrad, ADAGRAD, {}),
    ("adagrad_groups", torch.optim.Adagrad, dict(ADAGRAD, maximize=True), dict(lr=0.1, weight_decay=0.0)),
    ("adagrad_double", torch.optim.Adagrad, ADAGRAD, {}),
]


def parts(values, dtype):
    return [part.to(dtype) for part in torch.tensor(values, dtype=torch.float64).split(list(SIZES.values()))]


def parameters(dtype):
    return parts([((37 * i) % 101 - 50) / 64 for i in range(NUMEL)], dtype)


def gradients(step, dtype):
    return parts([((53 * i + 29 * step) % 97 - 48) / 128 for i in range(NUMEL)], dtype)


def bits(tensors):
    tensor = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    words, mask = (tensor.view(torch.int64), (1 << 64) - 1) if tensor.dtype == torch.float64 else (tensor.view(torch.int32), (1 << 32) - 1)
    shown = [f"0x{int(word) & mask:0{len(hex(mask)) - 2}x}" for word in words]
    per_line = 10 if mask < 1 << 32 else 5
    lines = [", ".join(shown[i : i + per_line]) for i in range(0, len(shown), per_line)]
    return "{" + ",\n      ".join(lines) + "}"


def results(name, kind, options, apart):
    """What ("parameter", or a name of state) → tensors, in the order of SIZES."""
    dtype = torch.float64 if name.endswith("_double") else torch.float32
    of = dict(zip(SIZES, (torch.nn.Parameter(p) for p in parameters(dtype))))
    chosen = ("p1", "p3") if apart else ()
    groups = [{"params": [of[n] for n in chosen], **apart}, {"params": [p for n, p in of.items() if n not in chosen]}]
    optimizer = kind([group for group in groups if group["params"]], foreach=False, **options)
    for step in range(STEPS):
        for p, gradient in zip(of.values(), gradients(step, dtype)):
            p.grad = gradient
        optimizer.step()
    found = {"parameter": list(of.values())}
    for p in of.values():
        for key, value in optimizer.state[p].items():
            if torch.is_tensor(value) and key != "step":
                found.setdefault(key, []).append(value)
    return found


def main():
    torch.set_num_threads(1)
    print("// tessera/fsdp/optim_golden.h: results of stock's for-loop optimizers, as bits of float32, or of float64 in cases that say so.")
    print(f"// Written by tests/golden/make_optim_golden.py with torch {torch.__version__.split('+')[0]}. Not for editing.")
    print("#pragma once\n\n#include <cstdint>\n#include <map>\n#include <string>\n#include <vector>\n")
    print("namespace tessera {\n\n// clang-format off")
    print(f"inline constexpr int64_t golden_numel = {NUMEL};\ninline constexpr int golden_steps = {STEPS};\n")
    print("// Case → what (\"parameter\" or a name of state) → bits after the last step.")
    print("inline const std::map<std::string, std::map<std::string, std::vector<uint64_t>>> optim_golden = {")
    for case in CASES:
        print(f'    {{"{case[0]}",\n     {{')
        for key, tensors in results(*case).items():
            print(f'      {{"{key}",\n      {bits(tensors)}}},')
        print("     }},")
    print("};\n// clang-format on\n\n}  // namespace tessera")


if __name__ == "__main__":
    main()
