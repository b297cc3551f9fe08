"""Clients that know nothing of us beforehand: reflection alone, and grpc-requests on top of it."""
import unittest

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_requests import Client

from server_process import ServerTest

SERVICES = {
    "dreamstate.v1.ModelService",
    "dreamstate.v1.StateService",
    "dreamstate.v1.DecodeService",
    "dreamstate.v1.GenerationService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


class ReflectionTest(ServerTest):
    def setUp(self):
        self.channel = grpc.insecure_channel(self.address)
        self.addCleanup(self.channel.close)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def test_every_service_is_listed_and_described(self):
        self.assertEqual(set(self.database.get_services()), SERVICES)
        for name in SERVICES:
            service = self.pool.FindServiceByName(name)
            self.assertGreater(len(service.methods), 0, name)
            for method in service.methods:
                self.assertTrue(method.input_type.full_name, method.name)

    def call(self, service, method, fields):
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(described.input_type)()
        json_format.ParseDict(fields, request)
        answer = message_factory.GetMessageClass(described.output_type)
        return self.channel.unary_unary(
            f"/{service}/{method}", request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString)(request, timeout=60)

    def test_a_call_needs_nothing_but_what_reflection_tells(self):
        models = self.call("dreamstate.v1.ModelService", "ListModels", {})
        self.assertEqual(models.models[0].name, "models/tiny")
        score = self.call("dreamstate.v1.DecodeService", "Score", {"target": {"text": "king"}})
        self.assertGreater(score.total_nats, 0)

    def test_the_health_service_is_described_too(self):
        health = self.call("grpc.health.v1.Health", "Check", {"service": "models/tiny"})
        self.assertEqual(json_format.MessageToDict(health), {"status": "SERVING"})


class GrpcRequestsTest(ServerTest):
    def setUp(self):
        self.client = Client.get_by_endpoint(self.address)

    def test_unary_calls(self):
        models = self.client.request("dreamstate.v1.ModelService", "ListModels", {})
        self.assertEqual(models["models"][0]["serving_version"], "models/tiny/versions/1")
        health = self.client.request("grpc.health.v1.Health", "Check", {})
        self.assertEqual(health, {"status": "SERVING"})

    def test_streams_in_both_directions(self):
        documents = [{"options": {}}, {"document": {"id": "a", "content": {"text": "Once"}}}]
        harvest = list(self.client.request("dreamstate.v1.StateService", "HarvestStates", documents))
        state = next(answer["state"]["state"]["name"] for answer in harvest if "state" in answer)
        decode = list(self.client.request("dreamstate.v1.DecodeService", "Decode",
                                          {"source": {"state": state}, "max_tokens": 5}))
        self.assertIn("start", decode[0])
        self.assertEqual(int(decode[-1]["finish"]["generated_tokens"]), 5)

    def test_a_refusal_says_why(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.request("dreamstate.v1.StateService", "GetState", {"name": "states/nosuch"})
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)


if __name__ == "__main__":
    unittest.main()
