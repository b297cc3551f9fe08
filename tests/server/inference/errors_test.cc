#include "server/inference/errors.h"

#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/text/utf8.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

template <typename Detail>
std::optional<Detail> Find(const grpc::Status& status) {
  const google::rpc::Status details = Details(status);
  for (const google::protobuf::Any& any : details.details()) {
    if (Detail detail; any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

const std::string kFingerprintA(64, 'a');
const std::string kFingerprintB(64, 'b');

struct Row {
  const char* name;
  absl::Status status;
  grpc::StatusCode code;
  // Type names of the details, in order.
  std::vector<std::string> details;
};

std::vector<Row> Table() {
  return {
      {"field",
       FieldError("sampling.top_p", "expected [0, 1], found 2"),
       grpc::StatusCode::INVALID_ARGUMENT,
       {"BadRequest"}},
      {"invalid without a field",
       absl::InvalidArgumentError("no"),
       grpc::StatusCode::INVALID_ARGUMENT,
       {}},
      {"not found",
       ResourceError(absl::StatusCode::kNotFound, "state", "states/x", "no such state"),
       grpc::StatusCode::NOT_FOUND,
       {"ResourceInfo"}},
      {"data loss",
       ResourceError(absl::StatusCode::kDataLoss, "state", "states/x", "checksum"),
       grpc::StatusCode::DATA_LOSS,
       {"ResourceInfo"}},
      {"already exists",
       ResourceError(absl::StatusCode::kAlreadyExists, "request", "r1", "other content"),
       grpc::StatusCode::ALREADY_EXISTS,
       {"ResourceInfo"}},
      {"other backbone",
       FingerprintError("states/x", kFingerprintA, kFingerprintB),
       grpc::StatusCode::FAILED_PRECONDITION,
       {"PreconditionFailure"}},
      {"quota with a time to retry",
       QuotaError("queue", "full", absl::Seconds(2)),
       grpc::StatusCode::RESOURCE_EXHAUSTED,
       {"QuotaFailure", "RetryInfo"}},
      {"quota that waiting does not help",
       QuotaError("state store bytes", "full", std::nullopt),
       grpc::StatusCode::RESOURCE_EXHAUSTED,
       {"QuotaFailure"}},
      {"unavailable",
       UnavailableError("draining", absl::Milliseconds(1500)),
       grpc::StatusCode::UNAVAILABLE,
       {"RetryInfo"}},
      {"unavailable that says nothing of retries",
       absl::UnavailableError("files are gone"),
       grpc::StatusCode::UNAVAILABLE,
       {"RetryInfo"}},
      {"aborted", absl::AbortedError("etag moved"), grpc::StatusCode::ABORTED, {}},
      {"cancelled", absl::CancelledError("gone"), grpc::StatusCode::CANCELLED, {}},
      {"deadline", absl::DeadlineExceededError("late"), grpc::StatusCode::DEADLINE_EXCEEDED, {}},
      {"unimplemented",
       absl::UnimplementedError("not in this build"),
       grpc::StatusCode::UNIMPLEMENTED,
       {}},
      {"unauthenticated", absl::UnauthenticatedError("who"), grpc::StatusCode::UNAUTHENTICATED, {}},
      {"permission", absl::PermissionDeniedError("no"), grpc::StatusCode::PERMISSION_DENIED, {}},
      {"internal", absl::InternalError("secret"), grpc::StatusCode::INTERNAL, {}},
      {"unknown", absl::UnknownError("secret"), grpc::StatusCode::INTERNAL, {}},
      {"out of range", absl::OutOfRangeError("secret"), grpc::StatusCode::INTERNAL, {}},
  };
}

TEST(Errors, EveryRowOfTheTableHasItsCodeAndDetails) {
  for (const Row& row : Table()) {
    SCOPED_TRACE(row.name);
    const grpc::Status status = ToGrpcStatus(row.status);
    EXPECT_EQ(status.error_code(), row.code);
    EXPECT_EQ(ToGrpcCode(row.status.code()), row.code);
    const google::rpc::Status details = Details(status);
    EXPECT_EQ(details.code(), row.code);
    EXPECT_EQ(details.message(), status.error_message());
    std::vector<std::string> types;
    for (const auto& any : details.details()) {
      types.push_back(any.type_url().substr(any.type_url().rfind('.') + 1));
    }
    EXPECT_EQ(types, row.details);
    if (row.code != grpc::StatusCode::INTERNAL) {
      EXPECT_EQ(status.error_message(), std::string(row.status.message()));
    }
  }
}

TEST(Errors, OkIsOk) { EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok()); }

TEST(Errors, DetailsCarryTheFacts) {
  const auto bad_request = Find<google::rpc::BadRequest>(
      ToGrpcStatus(FieldError("sampling.top_p", "expected [0, 1], found 2")));
  ASSERT_TRUE(bad_request.has_value());
  ASSERT_EQ(bad_request->field_violations_size(), 1);
  EXPECT_EQ(bad_request->field_violations(0).field(), "sampling.top_p");
  EXPECT_THAT(bad_request->field_violations(0).description(), HasSubstr("found 2"));

  const auto resource = Find<google::rpc::ResourceInfo>(ToGrpcStatus(
      ResourceError(absl::StatusCode::kNotFound, "state", "states/x", "no such state")));
  ASSERT_TRUE(resource.has_value());
  EXPECT_EQ(resource->resource_type(), "state");
  EXPECT_EQ(resource->resource_name(), "states/x");

  const auto precondition = Find<google::rpc::PreconditionFailure>(
      ToGrpcStatus(FingerprintError("states/x", kFingerprintA, kFingerprintB)));
  ASSERT_TRUE(precondition.has_value());
  ASSERT_EQ(precondition->violations_size(), 1);
  EXPECT_EQ(precondition->violations(0).subject(), "states/x");
  EXPECT_THAT(precondition->violations(0).description(), HasSubstr(kFingerprintA));
  EXPECT_THAT(precondition->violations(0).description(), HasSubstr(kFingerprintB));

  const auto quota = Find<google::rpc::QuotaFailure>(
      ToGrpcStatus(QuotaError("state store bytes", "full", std::nullopt)));
  ASSERT_TRUE(quota.has_value());
  EXPECT_EQ(quota->violations(0).subject(), "state store bytes");

  const auto retry = Find<google::rpc::RetryInfo>(
      ToGrpcStatus(UnavailableError("draining", absl::Milliseconds(1500))));
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().seconds(), 1);
  EXPECT_EQ(retry->retry_delay().nanos(), 500'000'000);
}

class InternalErrors : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
  }
  void TearDown() override {
    spdlog::set_default_logger(before_);
    SetErrorDebugDetails(false);
  }
  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST_F(InternalErrors, AreLoggedUnderTheIdThatTheAnswerCarriesAndSayNothingElse) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError("/secret/path broke"));
  EXPECT_THAT(status.error_message(), Not(HasSubstr("secret")));
  EXPECT_THAT(status.error_details(), Not(HasSubstr("secret")));
  EXPECT_THAT(log_.str(), HasSubstr("/secret/path broke"));
  const std::string& message = status.error_message();
  const size_t begin = message.find("internal error ") + 15;
  const std::string id = message.substr(begin, 16);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_THAT(log_.str(), HasSubstr(id));
}

TEST_F(InternalErrors, TellTheirCauseWithTheFlagOnly) {
  SetErrorDebugDetails(true);
  const auto debug =
      Find<google::rpc::DebugInfo>(ToGrpcStatus(absl::InternalError("/secret/path broke")));
  ASSERT_TRUE(debug.has_value());
  EXPECT_THAT(debug->detail(), HasSubstr("/secret/path broke"));
}

TEST(Errors, AnswersFitIntoTrailersAndAreUtf8WhateverTheMessage) {
  for (const std::string& text :
       {std::string(1 << 20, 'x'), std::string(1 << 20, '\xff'), std::string("\xc3"),
        std::string(799, 'x') + "\xe2\x82\xac and more than fits" + std::string(100, 'y')}) {
    const grpc::Status status = ToGrpcStatus(FieldError(text, text));
    // Percent-encoding trebles what is not printable; base64 adds a third.
    EXPECT_LT(status.error_message().size() * 3 + status.error_details().size() * 4 / 3, 8192u);
    EXPECT_TRUE(text::IsValidUtf8(status.error_message()));
    EXPECT_TRUE(text::IsValidUtf8(Details(status).message()));
  }
}

TEST(Errors, CodesHaveTheContractsNames) {
  EXPECT_STREQ(GrpcCodeName(grpc::StatusCode::OK), "OK");
  EXPECT_STREQ(GrpcCodeName(grpc::StatusCode::INVALID_ARGUMENT), "INVALID_ARGUMENT");
  EXPECT_STREQ(GrpcCodeName(grpc::StatusCode::DATA_LOSS), "DATA_LOSS");
  EXPECT_STREQ(GrpcCodeName(grpc::StatusCode::UNAUTHENTICATED), "UNAUTHENTICATED");
}

}  // namespace
}  // namespace dreamstate::server
