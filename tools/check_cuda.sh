#!/bin/sh
# Compiles, on any machine, what is built only beside a LibTorch with CUDA: against the headers of the CUDA wheel of the same torch, which are fetched once
# (1 GB) into build/cuda. Needs no GPU and runs nothing.
set -eu
cd "$(dirname "$0")/.."
torch=2.13.0
into=build/cuda
if [ ! -d "$into/torch/include" ]; then
  mkdir -p "$into"
  # PyPI's wheel of torch is the one with CUDA; the others have the headers that its own include.
  ${PYTHON:-.venv/bin/python} -m pip download --quiet --no-deps --dest "$into/wheels" "torch==$torch" nvidia-nccl-cu13 nvidia-cuda-runtime nvidia-cuda-crt \
    nvidia-cublas nvidia-cusparse nvidia-cusolver nvidia-curand nvidia-cuda-cccl
  for wheel in "$into"/wheels/*.whl; do
    ${PYTHON:-.venv/bin/python} -m zipfile -e "$wheel" "$into"
  done
  rm -rf "$into/wheels" "$into"/torch/lib "$into"/nvidia/*/lib
fi
[ -d "$into/nvidia/nccl/include" ] || { echo "check_cuda: $into holds a torch without CUDA; is the index limited to CPU wheels?" >&2; exit 1; }
for file in tessera/collectives/nccl_collectives.cpp tessera/collectives/join.cpp tessera/collectives/by_device.cpp; do
  echo "compiling $file"
  ${CXX:-c++} -std=c++20 -fsyntax-only -Wall -Wextra -Wno-missing-field-initializers -DTESSERA_NCCL -DUSE_C10D_NCCL -DUSE_C10D_GLOO -DUSE_DISTRIBUTED -I. \
    -isystem "$into/torch/include" -isystem "$into/torch/include/torch/csrc/api/include" -isystem "$into/nvidia/nccl/include" \
    -isystem "$into/nvidia/cu13/include" -isystem "$into/nvidia/cu13/include/cccl" "$file"
done
echo "all compile"
