#!/usr/bin/env python3
"""Writes tessera/fsdp/optim_golden.h: what stock's for-loop optimizers make of a fixed parameter and fixed gradients.

Run it with the Python of the virtual environment, from the root of the repository:
    .venv/bin/python tests/golden/make_optim_golden.py > tessera/fsdp/optim_golden.h
Nothing needs it at run time; optim_test.cpp compares bit for bit.
"""
import torch

NUMEL, STEPS = 43, 4

CASES = [
    ("adamw", torch.optim.AdamW, dict()),
    ("adamw_amsgrad", torch.optim.AdamW, dict(lr=0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, amsgrad=True)),
    ("adamw_maximize", torch.optim.AdamW, dict(lr=0.02, weight_decay=0.0, maximize=True)),
    ("sgd", torch.optim.SGD, dict(lr=0.1)),
    ("sgd_decay", torch.optim.SGD, dict(lr=0.1, weight_decay=0.05, maximize=True)),
    ("sgd_momentum", torch.optim.SGD, dict(lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01)),
    ("sgd_nesterov", torch.optim.SGD, dict(lr=0.05, momentum=0.9, nesterov=True)),
]


def parameter():
    return torch.tensor([((37 * i) % 101 - 50) / 64 for i in range(NUMEL)], dtype=torch.float32)


def gradient(step):
    return torch.tensor([((53 * i + 29 * step) % 97 - 48) / 128 for i in range(NUMEL)], dtype=torch.float32)


def bits(tensor):
    words = [f"0x{int(v) & 0xFFFFFFFF:08x}" for v in tensor.detach().contiguous().view(torch.int32)]
    lines = [", ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
    return "{" + ",\n      ".join(lines) + "}"


def main():
    torch.set_num_threads(1)
    print("// tessera/fsdp/optim_golden.h: results of stock's for-loop optimizers, as bits of float32.")
    print(f"// Written by tests/golden/make_optim_golden.py with torch {torch.__version__.split('+')[0]}. Not for editing.")
    print("#pragma once\n\n#include <cstdint>\n#include <map>\n#include <string>\n#include <vector>\n")
    print("namespace tessera {\n\n// clang-format off")
    print(f"inline constexpr int64_t golden_numel = {NUMEL};\ninline constexpr int golden_steps = {STEPS};\n")
    print("// Case → what (\"parameter\" or a name of state) → bits after the last step.")
    print("inline const std::map<std::string, std::map<std::string, std::vector<uint32_t>>> optim_golden = {")
    for name, kind, options in CASES:
        p = torch.nn.Parameter(parameter())
        optimizer = kind([p], foreach=False, **options)
        for step in range(STEPS):
            p.grad = gradient(step)
            optimizer.step()
        tensors = {"parameter": p, **{k: v for k, v in optimizer.state[p].items() if torch.is_tensor(v) and v.dim() > 0}}
        print(f'    {{"{name}",\n     {{')
        for key, tensor in tensors.items():
            print(f'      {{"{key}",\n      {bits(tensor)}}},')
        print("     }},")
    print("};\n// clang-format on\n\n}  // namespace tessera")


if __name__ == "__main__":
    main()
