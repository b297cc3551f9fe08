// The whole story against the real process: harvest, list, branch, score, save, continue; and what
// survives its end.
#include <signal.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using ::testing::Contains;
using testing::Decoded;
using ::testing::ElementsAre;
using testing::SeededDecode;
using testing::ServerProcess;
using testing::Session;
using ::testing::SizeIs;

constexpr char kDocument[] =
    "The Time Machine, by H. G. Wells. The Time Traveller was expounding a recondite matter to us. "
    "His grey eyes shone and twinkled, and his usually pale face was flushed and animated.";

class Story : public ::testing::Test {
 protected:
  ServerProcess StartServer() {
    ServerProcess server({.repository = DREAMSTATE_TEST_DATA "/repository", .store = store_});
    EXPECT_TRUE(server.WaitUntilListening());
    return server;
  }
  testing::TemporaryDirectory directory_;
  const std::string store_ = directory_ / "store";
};

TEST_F(Story, HarvestListBranchScoreSaveContinue) {
  ServerProcess server = StartServer();
  Session session(server.address());
  session.WaitServing();

  const std::string state = session.HarvestText(kDocument, "wells");
  v1::ListStatesRequest list;
  list.add_labels("wells");
  const auto [list_status, page] = session.ListStates(list);
  ASSERT_TRUE(list_status.ok());
  ASSERT_EQ(page.states_size(), 1);
  EXPECT_EQ(page.states(0).name(), state);
  EXPECT_EQ(page.states(0).token_count(), static_cast<int64_t>(sizeof kDocument - 1));

  // Three branches from one state differ from each other; each is the same when decoded again.
  const Decoded three = session.Decode(SeededDecode(state, 3, 40));
  ASSERT_TRUE(three.status.ok()) << three.status.error_message();
  EXPECT_EQ(three.start.model_version(), "models/tiny/versions/1");
  EXPECT_EQ(three.start.seed(), 7u);
  EXPECT_EQ(three.start.reused_tokens(), static_cast<int64_t>(sizeof kDocument - 1));
  ASSERT_THAT(three.branches, SizeIs(3));
  std::set<std::string> texts;
  for (const auto& [number, branch] : three.branches) {
    texts.insert(branch.text);
    ASSERT_TRUE(branch.finish.has_value());
    EXPECT_EQ(branch.finish->generated_tokens(), static_cast<int64_t>(branch.tokens.size()));
  }
  EXPECT_THAT(texts, SizeIs(3));
  const Decoded again = session.Decode(SeededDecode(state, 3, 40));
  for (const auto& [number, branch] : three.branches) {
    EXPECT_EQ(again.branches.at(number).tokens, branch.tokens) << number;
  }
  const Decoded alone = session.Decode(SeededDecode(state, 1, 40));
  EXPECT_EQ(alone.branches.at(0).tokens, three.branches.at(0).tokens);

  // The document's own words are less surprising after the document.
  v1::ScoreRequest score;
  score.mutable_target()->set_text("The Time Traveller was expounding a recondite matter to us.");
  score.set_per_token(true);
  const auto [empty_status, from_empty] = session.Score(score);
  score.mutable_source()->set_state(state);
  const auto [state_status, from_state] = session.Score(score);
  ASSERT_TRUE(empty_status.ok()) << empty_status.error_message();
  ASSERT_TRUE(state_status.ok()) << state_status.error_message();
  EXPECT_LT(from_state.total_nats(), from_empty.total_nats());
  EXPECT_EQ(from_state.token_nats_size(), from_state.target_tokens());

  // Stopping, saving and going on is the same text as going on at once.
  v1::DecodeRequest greedy = SeededDecode(state, 1, 10);
  greedy.mutable_sampling()->set_temperature(0);
  v1::DecodeRequest greedy_long = greedy;
  greedy_long.set_max_tokens(25);
  greedy.mutable_save_state()->mutable_annotations()->add_labels("saved");
  const Decoded first = session.Decode(greedy);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  const v1::State saved = first.branches.at(0).finish->saved_state();
  EXPECT_THAT(saved.labels(), ElementsAre("saved"));
  EXPECT_EQ(saved.lineage().operation(), "decode");
  EXPECT_THAT(saved.lineage().parents(), ElementsAre(state));
  v1::DecodeRequest rest = SeededDecode(saved.name(), 1, 15);
  rest.mutable_sampling()->set_temperature(0);
  const Decoded second = session.Decode(rest);
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  const Decoded at_once = session.Decode(greedy_long);
  EXPECT_EQ(first.branches.at(0).text + second.branches.at(0).text, at_once.branches.at(0).text);

  EXPECT_EQ(server.Stop(), 0);
}

TEST_F(Story, AfterARestartStatesAreThereAndTheSameSeedGivesTheSameText) {
  std::string state;
  Decoded before;
  {
    ServerProcess server = StartServer();
    Session session(server.address());
    session.WaitServing();
    state = session.HarvestText(kDocument, "wells");
    before = session.Decode(SeededDecode(state, 2, 50));
    ASSERT_TRUE(before.status.ok()) << before.status.error_message();
    EXPECT_EQ(server.Stop(), 0);
  }
  ServerProcess server = StartServer();
  Session session(server.address());
  session.WaitServing();
  const auto [status, found] = session.GetState(state);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(found.labels(), ElementsAre("wells"));
  const Decoded after = session.Decode(SeededDecode(state, 2, 50));
  for (const auto& [number, branch] : before.branches) {
    EXPECT_EQ(after.branches.at(number).tokens, branch.tokens) << number;
    EXPECT_EQ(after.branches.at(number).text, branch.text) << number;
  }
}

TEST_F(Story, Kill9LosesNothingThatWasAcknowledged) {
  std::vector<std::string> acknowledged;
  {
    ServerProcess server = StartServer();
    Session session(server.address());
    session.WaitServing();
    grpc::ClientContext context;
    auto stream = session.states->HarvestStates(&context);
    v1::HarvestStatesRequest request;
    request.mutable_options();
    ASSERT_TRUE(stream->Write(request));
    request.mutable_document()->mutable_content()->set_text(kDocument);
    request.mutable_document()->set_every_n(20);
    std::thread writer([&] {
      for (int i = 0; i < 50; ++i) {
        request.mutable_document()->set_id("document " + std::to_string(i));
        if (!stream->Write(request)) return;
      }
    });
    v1::HarvestStatesResponse response;
    while (acknowledged.size() < 60 && stream->Read(&response)) {
      if (response.has_state()) acknowledged.push_back(response.state().state().name());
    }
    server.Signal(SIGKILL);  // in the middle of writing more
    EXPECT_EQ(server.Wait(), 128 + SIGKILL);
    while (stream->Read(&response)) {
      if (response.has_state()) acknowledged.push_back(response.state().state().name());
    }
    writer.join();
    stream->Finish();
  }
  ASSERT_GE(acknowledged.size(), 60u);
  ServerProcess server = StartServer();
  Session session(server.address());
  session.WaitServing();
  for (const std::string& name : acknowledged) {
    const auto [status, state] = session.GetState(name);
    ASSERT_TRUE(status.ok()) << name << ": " << status.error_message();
  }
  // Whole, not only named.
  EXPECT_TRUE(session.Decode(SeededDecode(acknowledged.back(), 1, 5)).status.ok());
}

TEST_F(Story, ManyClientsAtOnceGetWhatEachWouldGetAlone) {
  ServerProcess server = StartServer();
  Session session(server.address());
  session.WaitServing();
  const std::string state = session.HarvestText(kDocument);
  constexpr int kClients = 8;
  std::vector<std::vector<int32_t>> alone(kClients), together(kClients);
  for (int i = 0; i < kClients; ++i) {
    alone[i] = session.Decode(SeededDecode(state, 1, 30, 100 + i)).branches[0].tokens;
  }
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, i] {
      Session mine(server.address());
      together[i] = mine.Decode(SeededDecode(state, 1, 30, 100 + i)).branches[0].tokens;
    });
  }
  for (std::thread& client : clients) client.join();
  for (int i = 0; i < kClients; ++i) EXPECT_EQ(together[i], alone[i]) << i;
}

}  // namespace
}  // namespace dreamstate
