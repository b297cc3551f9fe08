"""The package client/python against a real server."""
import datetime
import importlib.util
import io
import contextlib
import sys
import unittest

import grpc
from google.rpc import error_details_pb2

import dreamstate
from dreamstate.v1 import decode_service_pb2, state_service_pb2
from server_process import ROOT, ServerTest

TEXT = "Once upon a time there was a king"


class WrapperTest(ServerTest):
    def setUp(self):
        self.client = dreamstate.Client(self.address, timeout=60)
        self.addCleanup(self.client.close)

    def harvest(self, text=TEXT, **arguments):
        (harvested,) = self.client.harvest({"document": text}, **arguments)
        return harvested.state

    def test_models_are_listed(self):
        (model,) = self.client.models()
        self.assertEqual(model.serving_version, "models/tiny/versions/1")

    def test_a_state_is_harvested_found_and_deleted(self):
        state = self.harvest(labels=["python"], time_to_live=datetime.timedelta(hours=1))
        self.assertEqual(state.token_count, len(TEXT))
        self.assertEqual([found.name for found in self.client.states(labels=["python"])], [state.name])
        self.assertEqual(self.client.get_state(state.name.split("/")[1]), state)
        self.client.delete_state(state)
        self.assertEqual(list(self.client.states(labels=["python"])), [])

    def test_harvests_take_text_bytes_and_positions(self):
        every = [h.position for h in self.client.harvest({"a": "abcdef"}, every=4)]
        self.assertEqual(sorted(every), [4, 6])
        by_bytes = self.harvest(TEXT.encode())
        by_text = self.harvest(TEXT)
        self.assertEqual(by_bytes.lineage.tokens_sha256, by_text.lineage.tokens_sha256)

    def test_a_refused_document_is_an_error_after_the_others(self):
        found = []
        with self.assertRaisesRegex(ValueError, "empty"):
            self.client.harvest(
                {"good": "text", "empty": ""}, on_state=lambda state: found.append(state.document_id))
        self.assertEqual(found, ["good"])

    def test_a_harvest_is_done_when_it_returns(self):
        self.client.harvest({"a": "text"}, labels=["eager"])
        (state,) = self.client.states(labels=["eager"])
        self.client.delete_state(state)

    def test_wrong_arguments_are_named_before_anything_is_sent(self):
        with self.assertRaisesRegex(TypeError, "documents: expected"):
            self.client.harvest("text")
        for call in (self.client.score, self.client.decode):
            with self.assertRaisesRegex(TypeError, "source: expected .* found int"):
                call("x", source=0)
        with self.assertRaisesRegex(TypeError, "state: expected .* found HarvestedState"):
            self.client.get_state(state_service_pb2.HarvestedState())

    def test_the_version_is_that_of_the_package(self):
        self.assertRegex(dreamstate.__version__, r"^\d+\.\d+\.\d+")

    def test_a_decode_streams_and_is_the_same_with_the_same_seed(self):
        state = self.harvest()
        decoding = self.client.decode(source=state, max_tokens=12, seed=5)
        pieces = list(decoding)
        self.assertGreater(len(pieces), 1)
        self.assertEqual(sum(len(piece.token_ids) for piece in pieces), 12)
        self.assertEqual(decoding.start.seed, 5)
        self.assertEqual(decoding.finishes[0].generated_tokens, 12)
        text = "".join(piece.text for piece in pieces)
        self.assertEqual(self.client.decode(source=state, max_tokens=12, seed=5).texts(), [text])

    def test_branches_differ_and_saved_states_go_on(self):
        decoding = self.client.decode(
            TEXT, branches=3, max_tokens=8, seed=1, top_k=8, save=True, labels=["kept"])
        texts = decoding.texts()
        self.assertEqual(len(texts), 3)
        self.assertGreater(len(set(texts)), 1)
        saved = decoding.finishes[2].saved_state
        self.assertEqual(saved.lineage.operation, "decode")
        self.assertEqual(list(self.client.get_state(saved).labels), ["kept"])
        self.assertEqual(len(self.client.decode(source=saved, max_tokens=3).texts()), 1)

    def test_a_score_is_the_sum_of_its_tokens(self):
        score = self.client.score("there was a king", context="Once upon a time ", per_token=True)
        self.assertAlmostEqual(sum(score.token_nats), score.total_nats, places=3)
        self.assertNotEqual(
            self.client.score("king", source=self.harvest()).total_nats,
            self.client.score("king").total_nats)

    def test_errors_carry_their_details(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.get_state("nosuch")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        (info,) = dreamstate.details_of(caught.exception)
        self.assertIsInstance(info, error_details_pb2.ResourceInfo)
        self.assertEqual(info.resource_name, "states/nosuch")
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.decode("x", top_p=7).texts()
        (bad,) = dreamstate.details_of(caught.exception)
        self.assertEqual(bad.field_violations[0].field, "sampling.top_p")

    def test_a_state_that_is_where_it_belongs_is_not_migrated(self):
        for labels in (None, ["moved"]):
            with self.assertRaises(grpc.RpcError) as caught:
                self.client.migrate(self.harvest(), labels=labels)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
            self.assertIn("needs no migration", caught.exception.details())

    def test_a_cancelled_decode_ends(self):
        decoding = self.client.decode("x", max_tokens=100000)
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in decoding:
                decoding.cancel()
        self.assertEqual(caught.exception.code(), grpc.StatusCode.CANCELLED)

    def test_a_state_goes_down_and_up_again_in_every_layout(self):
        state = self.harvest()
        text = self.client.decode(" and", source=state, max_tokens=8, seed=2).texts()
        for layout in (state_service_pb2.DREAMSTATE, state_service_pb2.CANONICAL,
                       state_service_pb2.RWKV_PACKAGE):
            dtype = state_service_pb2.STATE_DTYPE_UNSPECIFIED
            if layout == state_service_pb2.RWKV_PACKAGE:
                dtype = state_service_pb2.FLOAT32
            header, data = self.client.download(state, layout=layout, dtype=dtype)
            self.assertEqual(len(data), header.bytes)
            copy = self.client.upload(data, layout=layout, token_count=state.token_count)
            self.assertEqual(
                self.client.decode(" and", source=copy, max_tokens=8, seed=2).texts(), text, layout)

    def test_a_state_is_an_array(self):
        state = self.harvest()
        shift, wkv = self.client.download_arrays(state)
        shape = state.shape
        self.assertEqual(shift.shape, (shape.layers, 2, shape.width))
        self.assertEqual(wkv.shape, (shape.layers, shape.heads, shape.head_size, shape.head_size))
        copy = self.client.upload_arrays(shift, wkv, token_count=7, labels=["array"])
        self.assertEqual(copy.token_count, 7)
        described, original = self.client.describe(copy), self.client.describe(state)
        self.assertEqual([head.rms for head in described.heads], [head.rms for head in original.heads])
        rms = float((wkv[3, 0].astype("f8") ** 2).mean() ** 0.5)
        self.assertAlmostEqual(described.heads[3 * shape.heads].rms / rms, 1, places=5)

    def test_the_stubs_reach_what_the_wrapper_has_no_method_for(self):
        request = decode_service_pb2.DecodeBatchRequest(id="a")
        request.request.max_tokens = 3
        responses = list(self.client.decode_service.DecodeBatch(iter([request]), timeout=60))
        self.assertEqual(responses[-1].WhichOneof("result"), "done")

    def test_the_example_runs(self):
        spec = importlib.util.spec_from_file_location("story", ROOT / "client/python/examples/story.py")
        for model in ([], ["tiny"]):
            arguments, sys.argv = sys.argv, ["story.py", self.address, *model]
            out = io.StringIO()
            try:
                with contextlib.redirect_stdout(out):
                    spec.loader.exec_module(importlib.util.module_from_spec(spec))
            finally:
                sys.argv = arguments
            self.assertIn("models/tiny serves models/tiny/versions/1", out.getvalue())
            self.assertIn("branch 2: ", out.getvalue())


if __name__ == "__main__":
    unittest.main()
