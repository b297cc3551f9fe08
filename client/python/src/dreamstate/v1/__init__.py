"""The messages (*_pb2) and stubs (*_pb2_grpc) of the public contract, made from its .proto files."""
