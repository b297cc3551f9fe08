#include "client/rpc_status.h"

#include <string>

#include "google/rpc/error_details.pb.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {
namespace {

TEST(RpcStatus, KeepsCodeMessageAndDetails) {
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("sampling.top_p");
  const absl::Status status =
      FromRpc(ErrorWith(grpc::StatusCode::INVALID_ARGUMENT, "out of range", bad));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "out of range");
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  EXPECT_TRUE(bad.ParseFromString(std::string(*payload)));
}

TEST(RpcStatus, EveryGrpcCodeIsTheSameAbslCode) {
  for (int code = 1; code <= 16; ++code) {
    EXPECT_EQ(
        static_cast<int>(FromRpc(grpc::Status(static_cast<grpc::StatusCode>(code), "")).code()),
        code);
  }
  EXPECT_TRUE(FromRpc(grpc::Status::OK).ok());
  EXPECT_EQ(FromRpc(grpc::Status(static_cast<grpc::StatusCode>(99), "")).code(),
            absl::StatusCode::kUnknown);
}

TEST(RpcStatus, NamesTheField) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("sampling.top_p");
  violation->set_description("must be in [0, 1], found 2");
  EXPECT_EQ(Explain(FromRpc(
                ErrorWith(grpc::StatusCode::INVALID_ARGUMENT, "must be in [0, 1], found 2", bad))),
            "invalid argument: sampling.top_p: must be in [0, 1], found 2");
  EXPECT_EQ(Explain(FromRpc(ErrorWith(grpc::StatusCode::INVALID_ARGUMENT,
                                      "sampling.top_p: must be in [0, 1], found 2", bad))),
            "invalid argument: sampling.top_p: must be in [0, 1], found 2")
      << "a message that names the field already is not repeated";
}

TEST(RpcStatus, ShowsFingerprintsAndResourcesThatTheMessageLeavesOut) {
  google::rpc::PreconditionFailure failure;
  auto* violation = failure.add_violations();
  violation->set_subject("states/x");
  violation->set_description("backbone aa, expected bb");
  EXPECT_EQ(Explain(FromRpc(
                ErrorWith(grpc::StatusCode::FAILED_PRECONDITION, "another backbone", failure))),
            "not possible: another backbone; states/x: backbone aa, expected bb");
  const std::string message = "states/x: expected backbone a, found b";
  EXPECT_EQ(Explain(FromRpc(ErrorWith(grpc::StatusCode::FAILED_PRECONDITION, message, failure))),
            "not possible: " + message)
      << "a message that names the state is not repeated";
  google::rpc::ResourceInfo resource;
  resource.set_resource_name("states/x");
  EXPECT_EQ(Explain(FromRpc(ErrorWith(grpc::StatusCode::NOT_FOUND, "no such state", resource))),
            "not found: no such state; states/x");
}

TEST(RpcStatus, SaysWhenToRetry) {
  const absl::Status status = FromRpc(RetryLater(grpc::StatusCode::RESOURCE_EXHAUSTED, 1500));
  EXPECT_EQ(RetryDelay(status), absl::Milliseconds(1500));
  EXPECT_EQ(Explain(status), "no room: come back later; try again in 1.5s");
}

TEST(RpcStatus, RetryDelayIsNeverNegativeOrEndless) {
  EXPECT_EQ(RetryDelay(FromRpc(RetryLater(grpc::StatusCode::UNAVAILABLE, -5000))),
            absl::ZeroDuration());
  EXPECT_EQ(RetryDelay(FromRpc(RetryLater(grpc::StatusCode::UNAVAILABLE, INT64_MAX / 2))),
            absl::Hours(24));
  EXPECT_EQ(RetryDelay(FromRpc(grpc::Status(grpc::StatusCode::UNAVAILABLE, ""))), std::nullopt);
}

TEST(RpcStatus, TellsALostServerFromABusyOne) {
  EXPECT_TRUE(
      IsUnreachable(FromRpc(grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection refused"))));
  EXPECT_FALSE(IsUnreachable(FromRpc(RetryLater(grpc::StatusCode::UNAVAILABLE, 10))));
  EXPECT_FALSE(IsUnreachable(FromRpc(grpc::Status(grpc::StatusCode::INTERNAL, ""))));
  EXPECT_EQ(Explain(FromRpc(grpc::Status(grpc::StatusCode::UNAVAILABLE,
                                         "failed to connect to all addresses; last error: UNKNOWN: "
                                         "ipv4:127.0.0.1:1: Connection refused"))),
            "no server answers: ipv4:127.0.0.1:1: Connection refused");
}

TEST(RpcStatus, GarbageDetailsAreIgnored) {
  EXPECT_EQ(Explain(FromRpc(
                grpc::Status(grpc::StatusCode::NOT_FOUND, "gone", std::string("\xff\xff\x01", 3)))),
            "not found: gone");
  absl::Status status = absl::InvalidArgumentError("bad");
  status.SetPayload("type.googleapis.com/google.rpc.BadRequest", absl::Cord("\xff\xff"));
  status.SetPayload("type.googleapis.com/google.rpc.RetryInfo", absl::Cord("\xff\xff"));
  EXPECT_EQ(Explain(status), "invalid argument: bad");
}

TEST(RpcStatus, AMessageCannotSteerTheTerminal) {
  EXPECT_EQ(Explain(absl::NotFoundError("a\033[2Jb\nc\r\xc2\x9b"
                                        "d\x7f\xff")),
            "not found: a [2Jb c  d ?");
}

}  // namespace
}  // namespace dreamstate::client
