#include "client/client.h"

#include <string>
#include <thread>
#include <vector>

#include "client/rpc_status.h"
#include "gmock/gmock.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {
namespace {

using testing::ElementsAre;

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    ClientOptions options;
    options.address = server_.address();
    options.retry.first_delay = absl::Milliseconds(1);
    client_ = *Client::Create(std::move(options));
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
};

TEST(Client, RefusesWhatCannotBeAnAddress) {
  for (const char* address : {"", " ", "local host:1", "host\n:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Client::Create({.address = address}).status())) << address;
  }
  EXPECT_TRUE(Client::Create({.address = "localhost"}).ok());
}

TEST(Client, NobodyThereIsUnreachable) {
  ClientOptions options;
  options.address = "127.0.0.1:1";
  options.retry.first_delay = absl::Milliseconds(1);
  const auto client = *Client::Create(std::move(options));
  const absl::Status status = client->GetModel("alpha").status();
  EXPECT_TRUE(IsUnreachable(status)) << status;
}

TEST_F(ClientTest, ListsArePagedThrough) {
  const auto models = client_->Models().Collect(100);
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].name(), "models/alpha");
  EXPECT_EQ((*models)[1].name(), "models/beta");
}

TEST_F(ClientTest, ABusyServerIsAskedAgainWhenItSaid) {
  server_.FailNext(RetryLater(grpc::StatusCode::RESOURCE_EXHAUSTED, 30), 2);
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(client_->GetModel("alpha").ok());
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(60));
  EXPECT_EQ(server_.calls(), 3);
}

TEST_F(ClientTest, RefusalsAreNotRepeated) {
  server_.FailNext(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no"));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->GetModel("alpha").status()));
  EXPECT_EQ(server_.calls(), 1);
}

TEST_F(ClientTest, DeletingAgainAfterALostAnswerIsNoError) {
  // The first attempt was lost on the way back: the state is gone already.
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  EXPECT_TRUE(client_->DeleteState("states/x", "").ok());
  EXPECT_TRUE(absl::IsNotFound(client_->DeleteState("states/x", "")));
}

TEST_F(ClientTest, ARepeatedUpdateIsKnownByItsRequestId) {
  v1::State state;
  state.set_name("states/x");
  server_.AddState(state);
  v1::UpdateStateRequest request;
  request.set_name("states/x");
  request.set_etag("e1");
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  EXPECT_TRUE(client_->UpdateState(request).ok());
  EXPECT_EQ(server_.calls(), 2);
  EXPECT_EQ(server_.updates().at(0).request_id().size(), 32u);
  EXPECT_TRUE(client_->UpdateState(request).ok());
  EXPECT_NE(server_.updates().at(1).request_id(), server_.updates().at(0).request_id());
  request.set_request_id("mine");
  EXPECT_TRUE(client_->UpdateState(request).ok());
  EXPECT_EQ(server_.updates().at(2).request_id(), "mine");
}

TEST_F(ClientTest, DecodeCallsItsHandlersInOrder) {
  v1::DecodeRequest request;
  request.set_branches(2);
  std::vector<std::string> texts(2);
  std::vector<int> finished;
  int starts = 0;
  DecodeHandlers handlers;
  handlers.on_start = [&](const v1::DecodeStart& start) {
    EXPECT_EQ(start.seed(), 42u);
    EXPECT_TRUE(texts[0].empty() && finished.empty());
    ++starts;
    return absl::OkStatus();
  };
  handlers.on_piece = [&](int branch, const v1::TextPiece& piece) {
    texts[branch] += piece.text();
    return absl::OkStatus();
  };
  handlers.on_finish = [&](const v1::DecodeFinish& finish) {
    finished.push_back(finish.branch());
    return absl::OkStatus();
  };
  ASSERT_TRUE(client_->Decode(request, handlers).ok());
  EXPECT_EQ(starts, 1);
  EXPECT_THAT(texts, ElementsAre("b0 one two three\033[2J", "b1 one two three\033[2J"));
  EXPECT_THAT(finished, ElementsAre(1, 0));
}

TEST_F(ClientTest, DecodeIsRepeatedOnlyBeforeItsFirstMessage) {
  server_.FailNext(RetryLater(grpc::StatusCode::UNAVAILABLE, 1));
  EXPECT_TRUE(client_->Decode({}, {}).ok());
  EXPECT_EQ(server_.calls(), 2);
  v1::DecodeRequest saving;
  saving.mutable_save_state();
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  EXPECT_TRUE(client_->Decode(saving, {}).ok());
  EXPECT_EQ(server_.calls(), 4);
  EXPECT_EQ(server_.decodes().back().save_state().request_id().size(), 32u)
      << "by which the server finds what the lost attempt has saved";
}

TEST_F(ClientTest, ModelsAreReloadedPinnedAndUnpinned) {
  const auto reloaded = client_->ReloadModel("alpha", /*wait=*/true);
  ASSERT_TRUE(reloaded.ok()) << reloaded.status();
  EXPECT_THAT(reloaded->retried_versions(), ElementsAre(2));
  EXPECT_EQ(server_.reloads().at(0).name(), "models/alpha");
  EXPECT_TRUE(server_.reloads().at(0).wait());
  const auto pinned = client_->PinModelVersion("models/alpha/versions/2");
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_EQ(pinned->pinned_version(), "models/alpha/versions/2");
  const auto unpinned = client_->UnpinModel("alpha");
  ASSERT_TRUE(unpinned.ok()) << unpinned.status();
  EXPECT_EQ(unpinned->pinned_version(), "");
}

TEST_F(ClientTest, StatesAreDescribedComparedTracedAndDeletedByFilter) {
  v1::State state;
  state.set_name("states/x");
  state.mutable_shape()->set_layers(2);
  state.mutable_shape()->set_heads(3);
  server_.AddState(state);
  const auto described = client_->DescribeState("x");
  ASSERT_TRUE(described.ok()) << described.status();
  EXPECT_EQ(described->heads_size(), 6);
  const auto compared = client_->CompareStates("x", "states/x");
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_TRUE(compared->identical());
  v1::ProjectStatesRequest map;
  for (int i = 0; i < 3; ++i) map.add_names("states/x");
  const auto projected = client_->ProjectStates(map);
  ASSERT_TRUE(projected.ok()) << projected.status();
  EXPECT_EQ(projected->points_size(), 3);
  v1::GetLineageRequest lineage;
  lineage.set_name("states/x");
  ASSERT_TRUE(client_->GetLineage(lineage).ok());

  v1::DeleteStatesRequest filter;
  filter.set_all(true);
  filter.set_dry_run(true);
  EXPECT_EQ(client_->DeleteStates(filter)->states(), 1);
  EXPECT_EQ(server_.deletes().at(0).request_id(), "") << "asking needs none";
  filter.set_dry_run(false);
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  EXPECT_EQ(client_->DeleteStates(filter)->states(), 1);
  EXPECT_EQ(server_.deletes().at(1).request_id().size(), 32u);
  EXPECT_TRUE(server_.states().empty());
}

TEST_F(ClientTest, AHandlersErrorEndsTheCallOnTheServerToo) {
  server_.HangAfter(2);
  DecodeHandlers handlers;
  handlers.on_piece = [](int, const v1::TextPiece&) { return absl::OutOfRangeError("enough"); };
  EXPECT_EQ(client_->Decode({}, handlers), absl::OutOfRangeError("enough"));
  EXPECT_TRUE(server_.WaitForCancelled(1));
}

TEST_F(ClientTest, CancellationEndsARunningStream) {
  server_.HangAfter(2);
  CallOptions options;
  options.cancellation = std::make_shared<Cancellation>();
  DecodeHandlers handlers;
  handlers.on_piece = [&](int, const v1::TextPiece&) {
    std::thread([cancellation = options.cancellation] { cancellation->Cancel(); }).join();
    return absl::OkStatus();
  };
  EXPECT_TRUE(absl::IsCancelled(client_->Decode({}, handlers, options)));
  EXPECT_TRUE(server_.WaitForCancelled(1));
}

TEST_F(ClientTest, CancellationEndsAWaitingUnaryCall) {
  server_.HangAfter(0);
  CallOptions options;
  options.cancellation = std::make_shared<Cancellation>();
  std::thread canceller([&] {
    EXPECT_TRUE(server_.WaitForCalls(1));
    options.cancellation->Cancel();
  });
  EXPECT_TRUE(absl::IsCancelled(client_->Score({}, options).status()));
  canceller.join();
  EXPECT_TRUE(server_.WaitForCancelled(1));
}

TEST_F(ClientTest, TheDeadlineHoldsForAllAttemptsTogether) {
  server_.HangAfter(0);
  CallOptions options;
  options.deadline = absl::Now() + absl::Milliseconds(50);
  EXPECT_TRUE(absl::IsDeadlineExceeded(client_->Score({}, options).status()));
  server_.FailNext(RetryLater(grpc::StatusCode::UNAVAILABLE, 25000));
  options.deadline = absl::Now() + absl::Seconds(20);
  const absl::Status status = client_->GetModel("alpha", options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << "waiting 25 s of 20 s left is not begun: " << status;
}

TEST_F(ClientTest, MessagesOfABranchThatWasNotAskedForAreAnError) {
  v1::DecodeRequest request;
  request.set_branches(65);  // the fake server sends branch 64, which was never asked for
  EXPECT_TRUE(absl::IsInternal(client_->Decode(request, {})));
}

TEST_F(ClientTest, ManyThreadsShareOneClient) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10; ++j) {
        EXPECT_TRUE(client_->Decode({}, {}).ok());
        EXPECT_TRUE(client_->GetModel("alpha").ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(server_.calls(), 160);
}

}  // namespace
}  // namespace dreamstate::client
