#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/rpc_status.h"
#include "gmock/gmock.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

BatchRequestAt Named(std::vector<std::string> ids) {
  return [ids](int64_t index) -> absl::StatusOr<std::optional<v1::DecodeBatchRequest>> {
    if (index >= static_cast<int64_t>(ids.size())) return std::optional<v1::DecodeBatchRequest>();
    v1::DecodeBatchRequest request;
    request.set_id(ids[static_cast<size_t>(index)]);
    request.mutable_request()->mutable_save_state();
    return request;
  };
}

class DecodeBatchTest : public testing::Test {
 protected:
  DecodeBatchTest() {
    ClientOptions options;
    options.address = server_.address();
    options.retry.first_delay = absl::Milliseconds(1);
    client_ = *Client::Create(std::move(options));
    handlers_.on_response = [this](const std::string& id, const v1::DecodeResponse& response) {
      texts_[id] += response.piece().piece().text();
      return absl::OkStatus();
    };
    handlers_.on_end = [this](const std::string& id, const absl::Status& outcome) {
      outcomes_[id] = outcome;
      return absl::OkStatus();
    };
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
  DecodeBatchHandlers handlers_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, absl::Status> outcomes_;
};

TEST_F(DecodeBatchTest, EveryDecodeEndsUnderItsName) {
  ASSERT_TRUE(client_->DecodeBatch(Named({"a", "b"}), handlers_).ok());
  EXPECT_THAT(texts_, ElementsAre(Pair("a", "one two"), Pair("b", "one two")));
  EXPECT_THAT(outcomes_, ElementsAre(Pair("a", absl::OkStatus()), Pair("b", absl::OkStatus())));
}

TEST_F(DecodeBatchTest, AFailedDecodeSaysWhyAndDoesNotEndTheBatch) {
  ASSERT_TRUE(client_->DecodeBatch(Named({"a", "bad", "c"}), handlers_).ok());
  EXPECT_EQ(outcomes_.size(), 3u);
  EXPECT_TRUE(outcomes_["c"].ok());
  EXPECT_EQ(Explain(outcomes_["bad"]),
            "invalid argument: max_tokens: must be at least 0, found -1");
}

TEST_F(DecodeBatchTest, ARepeatSavesUnderTheSameRequestIds) {
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  std::vector<std::string> drawn;
  const BatchRequestAt named = Named({"a", "b"});
  ASSERT_TRUE(client_->DecodeBatch(named, handlers_).ok());
  EXPECT_EQ(server_.calls(), 2);
  const auto batch = server_.batch();
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_THAT(batch[0].request().save_state().request_id(), testing::EndsWith("-0"));
  EXPECT_THAT(batch[1].request().save_state().request_id(), testing::EndsWith("-1"));
}

TEST_F(DecodeBatchTest, AnErrorOfTheRequestsEndsTheCallAndIsNotRepeated) {
  const BatchRequestAt requests =
      [&](int64_t index) -> absl::StatusOr<std::optional<v1::DecodeBatchRequest>> {
    if (index == 0) {
      v1::DecodeBatchRequest request;
      request.set_id("a");
      return request;
    }
    EXPECT_TRUE(server_.WaitForCalls(1));
    return absl::UnavailableError("the disk went away");
  };
  EXPECT_EQ(client_->DecodeBatch(requests, handlers_),
            absl::UnavailableError("the disk went away"));
  EXPECT_EQ(server_.calls(), 1);
}

TEST_F(DecodeBatchTest, AHandlersErrorEndsTheCall) {
  handlers_.on_response = [](const std::string&, const v1::DecodeResponse&) {
    return absl::OutOfRangeError("enough");
  };
  EXPECT_EQ(client_->DecodeBatch(Named({"a", "b"}), handlers_), absl::OutOfRangeError("enough"));
}

TEST_F(DecodeBatchTest, CancellationEndsTheBatch) {
  server_.HangAfter(1);
  CallOptions options;
  options.cancellation = std::make_shared<Cancellation>();
  std::thread canceller([&] {
    EXPECT_TRUE(server_.WaitForCalls(1));
    options.cancellation->Cancel();
  });
  EXPECT_TRUE(absl::IsCancelled(client_->DecodeBatch(Named({"a", "b"}), handlers_, options)));
  canceller.join();
  EXPECT_TRUE(server_.WaitForCancelled(1));
}

TEST_F(DecodeBatchTest, AnEmptyBatchIsDoneAtOnce) {
  EXPECT_TRUE(client_->DecodeBatch(Named({}), handlers_).ok());
}

}  // namespace
}  // namespace dreamstate::client
