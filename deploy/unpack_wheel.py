#!/usr/bin/env python3
"""Unpacks what building needs out of a wheel: unpack_wheel.py WHEEL DESTINATION RULE

A wheel is a zip archive. RULE says which of its files are written under DESTINATION:
  googleapis   google/rpc/*.proto
  torch-cpu    the LibTorch half of torch that runs on the CPU: lib, include, share
  torch-cuda   the same with the CUDA libraries
  nvidia       the two libraries that libtorch_cpu of a CUDA wheel loads even without a GPU
"""
import os
import re
import shutil
import sys
import zipfile

RULES = {
    "googleapis": r"google/rpc/[^/]+\.proto",
    # torch/include/google/ would shadow the system's protobuf headers with older ones;
    # libtorch_python needs a Python.
    "torch-cpu": r"torch/lib/lib(?!torch_cuda|c10_cuda|caffe2_nvrtc|torch_nvshmem|torch_python)[^/]+\.so[^/]*"
    r"|torch/include/(?!google/).+|torch/share/.+",
    "torch-cuda": r"torch/lib/lib(?!torch_python)[^/]+\.so[^/]*"
    r"|torch/include/(?!google/).+|torch/share/.+",
    "nvidia": r"nvidia/cu13/lib/(libcudart|libcupti)\.so\.13",
}


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in RULES:
        sys.exit(__doc__)
    wheel, destination, rule = sys.argv[1:]
    wanted = re.compile(RULES[rule])
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = member.filename
            if member.is_dir() or ".." in name.split("/") or not wanted.fullmatch(name):
                continue
            path = os.path.join(destination, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            count += 1
    if count == 0:
        sys.exit(f"{wheel}: holds nothing that the rule {rule} asks for")


if __name__ == "__main__":
    main()
