"""The real dreamstate-server on a free port, with the model that ships, for the length of a test class."""
import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

import grpc

BINARY = os.environ["DREAMSTATE_SERVER_BINARY"]
ROOT = pathlib.Path(os.environ["DREAMSTATE_ROOT"])


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="dreamstate-python-")
        home = pathlib.Path(cls.directory.name)
        cls.log = open(home / "log", "w+", encoding="utf-8")
        cls.process = subprocess.Popen(
            [BINARY, "--repository", ROOT / "tests/data/repository", "--store", home / "store",
             "--listen-address", "127.0.0.1:0", "--admin-address", "", "--reflection",
             "--port-file", home / "ports.json"],
            stdin=subprocess.DEVNULL, stdout=cls.log, stderr=subprocess.STDOUT)
        cls.addClassCleanup(cls.stop)
        ports = home / "ports.json"
        while not ports.exists():
            if cls.process.poll() is not None:
                cls.log.seek(0)
                raise AssertionError(f"the server ended: {cls.log.read()}")
            time.sleep(0.002)
        cls.address = f"127.0.0.1:{json.loads(ports.read_text())['grpc']}"
        with grpc.insecure_channel(cls.address) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            while check(b"", timeout=60) != b"\x08\x01":  # SERVING
                time.sleep(0.002)

    @classmethod
    def stop(cls):
        if cls.process.poll() is None:
            cls.process.terminate()
        cls.process.wait(timeout=60)
        cls.log.close()
        cls.directory.cleanup()
