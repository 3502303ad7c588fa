#!/usr/bin/env python3
"""The C interface through ctypes: every tensor of a fixture, whole and row by row, against expected.json; damage as an error value.

Usage: ctypes_test.py LIBRARY DATA      DATA is tests/golden/data
"""
import ctypes
import hashlib
import json
import sys
from pathlib import Path


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("offset_bytes", ctypes.c_int64), ("file", ctypes.c_char * 256), ("message", ctypes.c_char * 512),
                ("hint", ctypes.c_char * 256)]


class Tensor(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int), ("dtype_name", ctypes.c_char_p), ("element_bytes", ctypes.c_int64), ("dims", ctypes.c_int),
                ("sizes", ctypes.c_int64 * 64)]


def main():
    lib = ctypes.CDLL(sys.argv[1])
    data = Path(sys.argv[2])
    lib.tessera_version.restype = ctypes.c_char_p
    lib.tessera_count.restype = lib.tessera_find.restype = ctypes.c_size_t
    lib.tessera_key.restype = ctypes.c_void_p
    handle, error = ctypes.c_void_p(), Error()

    def open_checkpoint(path):
        return lib.tessera_open(str(path).encode(), ctypes.byref(handle), ctypes.byref(error))

    compared = 0
    fixtures = [data / "torch-2.13" / name for name in ("fsdp1_sharded", "fsdp2_uneven", "hf_sharded", "nested_objects")]
    for fixture in fixtures:
        expected = json.loads((fixture / "expected.json").read_text(encoding="utf-8"))["entries"]
        assert open_checkpoint(fixture / "ckpt") == 0, error.message
        assert lib.tessera_count(handle) == len(expected)
        for i in range(len(expected)):
            length = ctypes.c_size_t()
            at = lib.tessera_key(handle, ctypes.c_size_t(i), ctypes.byref(length))
            key = ctypes.string_at(at, length.value).decode("utf-8", "surrogatepass")
            entry = expected[key]
            assert lib.tessera_is_tensor(handle, ctypes.c_size_t(i)) == (entry["kind"] == "tensor")
            if entry["kind"] != "tensor":
                continue
            tensor = Tensor()
            assert lib.tessera_describe(handle, ctypes.c_size_t(i), ctypes.byref(tensor), ctypes.byref(error)) == 0, error.message
            shape = list(tensor.sizes[: tensor.dims])
            assert shape == entry["shape"] and tensor.dtype_name.decode() == entry["dtype"], key
            count = tensor.element_bytes
            for size in shape:
                count *= size
            room = ctypes.create_string_buffer(count + 1)
            assert lib.tessera_read(handle, ctypes.c_size_t(i), None, None, None, room, ctypes.c_size_t(count), ctypes.byref(error)) == 0
            assert hashlib.sha256(room.raw[:count]).hexdigest() == entry["sha256"], key
            compared += 1
        lib.tessera_close(handle)
    assert open_checkpoint(data / "nowhere") == 2 and error.message, error.message
    refused = open_checkpoint(data / "hostile/metadata_truncated")
    assert refused == 5 and error.file.decode().endswith(".metadata") and not handle, (refused, error.file)
    print(f"tessera {lib.tessera_version().decode()}: {compared} tensors equal, damage told as code {refused}: {error.message.decode()}")


if __name__ == "__main__":
    main()
