"""Generates the messages and stubs of dreamstate.v1 while the package is built.

The .proto files are those of $DREAMSTATE_PROTO, or of this source tree, or of an installed DREAMSTATE.
"""
import importlib.metadata
import os
import pathlib
import re

from setuptools import setup
from setuptools.command.build_py import build_py

PLACES = [
    os.environ.get("DREAMSTATE_PROTO", ""),
    pathlib.Path(__file__).resolve().parents[2] / "proto",
    "/usr/local/share/dreamstate/proto",
    "/usr/share/dreamstate/proto",
]


def find_protos():
    for place in PLACES:
        files = sorted(pathlib.Path(place).glob("dreamstate/v1/*.proto")) if place else []
        if files:
            return pathlib.Path(place), files
    looked = ", ".join(str(place) for place in PLACES if place)
    raise SystemExit(f"no dreamstate/v1/*.proto in {looked}: say with DREAMSTATE_PROTO where they are")


def dependencies():
    """The stubs refuse at import a grpcio or protobuf that is older than the tools they were made with."""
    tools = importlib.metadata.requires("grpcio-tools")
    needed = [each for each in tools if re.match(r"(grpcio|protobuf)\b(?!-)", each)]
    return needed + ["googleapis-common-protos>=1.60"]


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        import google.rpc.status_pb2
        import grpc_tools
        from grpc_tools import protoc

        root, files = find_protos()
        out = self.build_lib
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        google_rpc = pathlib.Path(google.rpc.status_pb2.__file__).parents[2]
        code = protoc.main(
            ["protoc", f"-I{root}", f"-I{google_rpc}", f"-I{well_known}",
             f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
            + [str(file) for file in files])
        if code != 0:
            raise SystemExit("protoc failed")


setup(cmdclass={"build_py": BuildWithStubs}, install_requires=dependencies())
