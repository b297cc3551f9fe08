#include <chrono>
#include <condition_variable>
#include <mutex>
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

v1::Document DocumentNamed(const std::string& id, std::string text) {
  v1::Document document;
  document.set_id(id);
  document.mutable_content()->set_text(std::move(text));
  return document;
}

DocumentAt Documents(int64_t count, size_t bytes) {
  return [=](int64_t index) -> absl::StatusOr<std::optional<v1::Document>> {
    if (index >= count) return std::optional<v1::Document>();
    return DocumentNamed(absl::StrCat("d", index), std::string(bytes, 'x'));
  };
}

class HarvestTest : public testing::Test {
 protected:
  HarvestTest() {
    ClientOptions options;
    options.address = server_.address();
    options.retry.first_delay = absl::Milliseconds(1);
    client_ = *Client::Create(std::move(options));
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
};

TEST_F(HarvestTest, EveryDocumentComesBackAsAState) {
  std::vector<std::string> ids;
  HarvestHandlers handlers;
  handlers.on_state = [&](const v1::HarvestedState& state) {
    EXPECT_EQ(state.position(), 10);
    ids.push_back(state.document_id());
    return absl::OkStatus();
  };
  const auto summary = client_->Harvest({}, Documents(3, 10), handlers);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(ids, ElementsAre("d0", "d1", "d2"));
  EXPECT_EQ(summary->states(), 3);
  EXPECT_EQ(summary->tokens(), 30);
}

TEST_F(HarvestTest, OneBadDocumentDoesNotEndTheRest) {
  server_.RefuseDocument("d1");
  std::vector<std::string> refused;
  HarvestHandlers handlers;
  handlers.on_error = [&](const v1::DocumentError& error) {
    refused.push_back(error.document_id());
    return absl::OkStatus();
  };
  const auto summary = client_->Harvest({}, Documents(3, 10), handlers);
  ASSERT_TRUE(summary.ok());
  EXPECT_THAT(refused, ElementsAre("d1"));
  EXPECT_EQ(summary->states(), 2);
}

// 200 MB of documents against a server that has stopped reading: the writer must wait, not gather
// them in memory.
TEST_F(HarvestTest, ASlowServerHoldsTheWriterBack) {
  server_.PauseReading(1);
  std::mutex mutex;
  std::condition_variable changed;
  int64_t asked = 0;
  const DocumentAt documents = [&](int64_t index) {
    const std::lock_guard lock(mutex);
    asked = index + 1;
    changed.notify_all();
    return Documents(200, 1 << 20)(index);
  };
  absl::StatusOr<v1::HarvestSummary> summary;
  std::thread harvest([&] { summary = client_->Harvest({}, documents, {}); });
  {
    std::unique_lock lock(mutex);
    EXPECT_FALSE(
        changed.wait_for(lock, std::chrono::milliseconds(500), [&] { return asked > 50; }));
  }
  server_.ResumeReading();
  harvest.join();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->documents(), 200);
}

TEST_F(HarvestTest, ARepeatSendsTheSameRequestIdAndDocuments) {
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  server_.FailNext(RetryLater(grpc::StatusCode::RESOURCE_EXHAUSTED, 1));
  v1::HarvestOptions options;
  options.set_request_id("mine");
  const auto summary = client_->Harvest(options, Documents(2, 10), {});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(server_.calls(), 3);
  ASSERT_EQ(server_.harvests().size(), 1u);
  EXPECT_EQ(server_.harvests()[0].request_id(), "mine");
  EXPECT_EQ(server_.documents().size(), 2u);
}

TEST_F(HarvestTest, ARequestIdIsDrawnWhenThereIsNone) {
  ASSERT_TRUE(client_->Harvest({}, Documents(1, 1), {}).ok());
  ASSERT_TRUE(client_->Harvest({}, Documents(1, 1), {}).ok());
  const auto harvests = server_.harvests();
  EXPECT_EQ(harvests[0].request_id().size(), 32u);
  EXPECT_NE(harvests[0].request_id(), harvests[1].request_id());
}

TEST_F(HarvestTest, AnErrorOfTheSourceEndsTheCallAndIsNotRepeated) {
  const DocumentAt documents = [&](int64_t index) -> absl::StatusOr<std::optional<v1::Document>> {
    if (index == 0) return DocumentNamed("d", "x");
    EXPECT_TRUE(server_.WaitForCalls(1));
    return absl::UnavailableError("the disk went away");
  };
  EXPECT_EQ(client_->Harvest({}, documents, {}).status(),
            absl::UnavailableError("the disk went away"));
  EXPECT_EQ(server_.calls(), 1);
}

TEST_F(HarvestTest, AHandlersErrorEndsTheCallAlsoWhileTheWriterWaits) {
  HarvestHandlers handlers;
  handlers.on_state = [&](const v1::HarvestedState&) {
    server_.PauseReading(1);
    return absl::OutOfRangeError("enough");
  };
  const absl::Status status = client_->Harvest({}, Documents(200, 1 << 20), handlers).status();
  EXPECT_EQ(status, absl::OutOfRangeError("enough"));
}

TEST_F(HarvestTest, CancellationEndsABlockedHarvest) {
  server_.PauseReading(1);
  CallOptions options;
  options.cancellation = std::make_shared<Cancellation>();
  std::thread canceller([&] {
    EXPECT_TRUE(server_.WaitForCalls(1));
    options.cancellation->Cancel();
  });
  const absl::Status status = client_->Harvest({}, Documents(200, 1 << 20), {}, options).status();
  canceller.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST_F(HarvestTest, ARefusalInTheMiddleIsAnsweredAsItIs) {
  server_.FailNext(grpc::Status(grpc::StatusCode::NOT_FOUND, "no such model"));
  EXPECT_TRUE(absl::IsNotFound(client_->Harvest({}, Documents(50, 1 << 20), {}).status()));
}

}  // namespace
}  // namespace dreamstate::client
