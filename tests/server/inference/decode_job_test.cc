#include "server/inference/decode_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/rwkv/engine.h"
#include "tests/server/inference/serving_fixture.h"

namespace dreamstate::server {
namespace {

using ::testing::HasSubstr;

// What an engine of its own gets from reading tokens from a source, in one piece.
struct Reading {
  state::State state;
  std::vector<float> last_hidden;
};
Reading Read(const Source& source, std::span<const int32_t> tokens) {
  kernels::ThreadPool pool(1);
  rwkv::Engine engine(TestWeights(), {.max_tokens = 4096, .max_sequences = 1, .slots = 1}, pool);
  source.Load(engine, 0);
  Reading reading;
  reading.last_hidden.resize(static_cast<size_t>(engine.config().width));
  const rwkv::Segment segment = {
      .slot = 0, .tokens = tokens, .last_hidden = reading.last_hidden.data()};
  EXPECT_TRUE(engine.Forward({&segment, 1}).ok());
  reading.state = state::State::Empty(state::Shape::Of(engine.config()));
  engine.slots().Store(0, reading.state.shift, reading.state.wkv);
  return reading;
}

std::vector<int32_t> Join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void ExpectStateHasRead(const state::Record& record, const std::vector<int32_t>& tokens) {
  const Reading expected = Read({}, tokens);
  EXPECT_EQ(record.state, expected.state);
  EXPECT_EQ(record.last_hidden, expected.last_hidden);
  EXPECT_EQ(record.token_count, static_cast<int64_t>(tokens.size()));
  EXPECT_EQ(record.lineage.tokens_sha256, state::TokensSha256(tokens));
}

TEST(DecodeJob, SameSeedGivesTheSameTextAloneAndAmongOthers) {
  Serving serving({.threads = 2, .slots = 6, .max_step_tokens = 24});
  std::vector<DecodeTask> tasks;
  for (int i = 0; i < 8; ++i) {
    DecodeTask task =
        serving.Task(std::string(static_cast<size_t>(3 + 17 * i), 'a') + "bc", 5 + 7 * (i % 4));
    task.branches = 1 + i % 3;
    task.sampling.seed = static_cast<uint64_t>(100 + i);
    task.top_log_probs = 2;
    tasks.push_back(task);
  }
  std::vector<std::map<int, BranchText>> alone;
  for (const DecodeTask& task : tasks) alone.push_back(serving.Decode(task));

  // All at once: more branches than slots, so that they join and leave at different steps.
  std::vector<CollectingSink> sinks(tasks.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    ASSERT_TRUE(serving.Submit(tasks[i], &sinks[i]).ok());
  }
  for (size_t i = 0; i < tasks.size(); ++i) {
    ASSERT_TRUE(sinks[i].Wait().ok());
    const std::map<int, BranchText> together = Branches(sinks[i].messages());
    ASSERT_EQ(together.size(), alone[i].size());
    for (const auto& [index, branch] : together) {
      EXPECT_EQ(branch.tokens, alone[i][index].tokens) << "task " << i << " branch " << index;
      EXPECT_EQ(branch.log_probs, alone[i][index].log_probs);
    }
  }
}

TEST(DecodeJob, TheStepBudgetChangesNothing) {
  const std::string prompt(300, 'x');
  std::vector<std::vector<int32_t>> tokens;
  std::vector<state::State> states;
  for (const int budget : {2, 7, 64, 1024}) {
    Serving serving({.threads = 2, .slots = 2, .max_step_tokens = budget});
    DecodeTask task = serving.Task(prompt, 20);
    task.save.emplace();
    const std::map<int, BranchText> result = serving.Decode(task);
    tokens.push_back(result.at(0).tokens);
    states.push_back(serving.Stored("s1").record->state);
  }
  for (size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i], tokens[0]);
    EXPECT_EQ(states[i], states[0]);
  }
}

TEST(DecodeJob, BranchesContinueOnePromptEachWithItsOwnDraws) {
  Serving serving;
  DecodeTask task = serving.Task("once upon", 12);
  const std::map<int, BranchText> one = serving.Decode(task);
  task.branches = 4;
  const std::map<int, BranchText> four = serving.Decode(task);
  ASSERT_EQ(four.size(), 4u);
  EXPECT_EQ(four.at(0).tokens, one.at(0).tokens);
  std::set<std::vector<int32_t>> different;
  for (const auto& [index, branch] : four) {
    EXPECT_EQ(branch.finishes, 1);
    EXPECT_EQ(branch.finish.generated_tokens(), static_cast<int64_t>(branch.tokens.size()));
    different.insert(branch.tokens);
  }
  EXPECT_EQ(different.size(), 4u);
}

TEST(DecodeJob, StartSaysWhatWasReadAndComesFirst) {
  Serving serving;
  DecodeTask task = serving.Task("hello", 3);
  CollectingSink sink;
  ASSERT_TRUE(serving.Submit(task, &sink).ok());
  ASSERT_TRUE(sink.Wait().ok());
  const std::vector<v1::DecodeResponse> messages = sink.messages();
  ASSERT_TRUE(messages.front().has_start());
  EXPECT_EQ(messages.front().start().model_version(), "models/tiny/versions/3");
  EXPECT_EQ(messages.front().start().seed(), 11u);
  EXPECT_EQ(messages.front().start().prompt_tokens(), 5);
  EXPECT_EQ(messages.front().start().reused_tokens(), 0);
  ASSERT_TRUE(messages.back().has_finish());
  EXPECT_EQ(messages.back().finish().reason(), v1::DecodeFinish::MAX_TOKENS);
}

TEST(DecodeJob, ASavedStateContinuesExactly) {
  Serving serving;
  DecodeTask task = serving.Task("it was", 20);
  task.sampling.temperature = 0;
  const BranchText whole = serving.Decode(task).at(0);

  task.max_tokens = 10;
  task.save.emplace();
  const BranchText first = serving.Decode(task).at(0);
  EXPECT_EQ(first.finish.saved_state().name(), "states/s1");
  DecodeTask rest = serving.Task("", 10);
  rest.sampling.temperature = 0;
  rest.source = serving.Stored("s1");
  const BranchText second = serving.Decode(rest).at(0);
  EXPECT_EQ(Join(first.tokens, second.tokens), whole.tokens);
}

TEST(DecodeJob, TheSavedStateHasReadExactlyWhatWasReturned) {
  Serving serving;
  const std::vector<int32_t> prompt = serving.Task("to be", 1).prompt;
  DecodeTask task = serving.Task("to be", 30);
  task.save.emplace();
  task.save->keep_tokens = true;
  const BranchText all = serving.Decode(task).at(0);
  ASSERT_EQ(all.finish.reason(), v1::DecodeFinish::MAX_TOKENS);
  ASSERT_EQ(all.tokens.size(), 30u);
  ExpectStateHasRead(*serving.Stored("s1").record, Join(prompt, all.tokens));
  EXPECT_EQ(serving.Stored("s1").record->lineage.kept_tokens, Join(prompt, all.tokens));

  // A stop of one token, whose state needs no repair, and one of several, whose state has read what
  // was trimmed.
  for (const size_t length : {1, 4}) {
    SCOPED_TRACE(length);
    // Its bytes are not UTF-8: the matcher works on bytes.
    std::string stop(all.raw, 12, length);
    DecodeTask stopping = task;
    stopping.stop = {"never appears here", stop};
    const BranchText stopped = serving.Decode(stopping).at(0);
    ASSERT_EQ(stopped.finish.reason(), v1::DecodeFinish::STOP);
    EXPECT_EQ(stopped.finish.stop_index(), 1);
    EXPECT_EQ(stopped.raw, all.raw.substr(0, all.raw.find(stop)));
    EXPECT_EQ(stopped.finish.generated_tokens(), static_cast<int64_t>(stopped.tokens.size()));
    const std::string id = stopped.finish.saved_state().name().substr(7);
    ExpectStateHasRead(*serving.Stored(id).record, Join(prompt, stopped.tokens));
  }

  // The model's own end: not returned, not read.
  DecodeTask ending = task;
  ending.max_tokens = 1000;
  ending.sampling.logit_bias = {{kEnd, 4.0f}};
  const BranchText ended = serving.Decode(ending).at(0);
  ASSERT_EQ(ended.finish.reason(), v1::DecodeFinish::END);
  ASSERT_GT(ended.tokens.size(), 0u);
  EXPECT_EQ(std::count(ended.tokens.begin(), ended.tokens.end(), kEnd), 0);
  const std::string id = ended.finish.saved_state().name().substr(7);
  ExpectStateHasRead(*serving.Stored(id).record, Join(prompt, ended.tokens));
}

TEST(DecodeJob, EveryBranchSavesItsOwnState) {
  Serving serving;
  DecodeTask task = serving.Task("three ways", 6);
  task.branches = 3;
  task.save.emplace();
  for (const auto& [index, branch] : serving.Decode(task)) {
    const std::string id = branch.finish.saved_state().name().substr(7);
    const Source saved = serving.Stored(id);
    ExpectStateHasRead(*saved.record, Join(task.prompt, branch.tokens));
    EXPECT_EQ(saved.record->lineage.operation, "decode");
    EXPECT_EQ(saved.record->lineage.arguments["branch"], index);
    EXPECT_EQ(saved.record->lineage.arguments["seed"], "11");
  }
}

TEST(DecodeJob, TheSeparatorIsReadWhereNextTokenLogitsAreUnknown) {
  Serving serving;
  const auto prompt_tokens = [&](const DecodeTask& task) {
    CollectingSink sink;
    EXPECT_TRUE(serving.Submit(task, &sink).ok());
    EXPECT_TRUE(sink.Wait().ok());
    return sink.messages().front().start().prompt_tokens();
  };
  // The empty state.
  DecodeTask task = serving.Task("", 2);
  task.save.emplace();
  EXPECT_EQ(prompt_tokens(task), 1);
  const Source saved = serving.Stored("s1");
  EXPECT_EQ(saved.record->token_count, 3);
  EXPECT_EQ(saved.record->lineage.arguments["separator_fed"], true);

  // A state that knows what comes next.
  task.save.reset();
  task.source = saved;
  EXPECT_EQ(prompt_tokens(task), 0);
  // The same state without.
  auto forgetful = std::make_shared<state::Record>(*saved.record);
  forgetful->last_hidden.clear();
  task.source.record = forgetful;
  EXPECT_EQ(prompt_tokens(task), 1);
  // A prompt makes it known.
  task.prompt = {'a'};
  EXPECT_EQ(prompt_tokens(task), 1);
}

TEST(DecodeJob, AStateThatNothingWasAddedToIsSavedAsItWas) {
  Serving serving;
  DecodeTask task = serving.Task("abc", 4);
  task.save.emplace();
  serving.Decode(task);
  const Source source = serving.Stored("s1");
  // Ends at once, and stops at once.
  DecodeTask at_once = serving.Task("", 4);
  at_once.source = source;
  at_once.save.emplace();
  at_once.sampling.logit_bias = {{kEnd, 100.0f}};
  EXPECT_EQ(serving.Decode(at_once).at(0).finish.reason(), v1::DecodeFinish::END);
  at_once.sampling.logit_bias = {{'q', 100.0f}};
  at_once.stop = {"qq"};
  EXPECT_EQ(serving.Decode(at_once).at(0).finish.reason(), v1::DecodeFinish::STOP);
  for (const std::string id : {"s2", "s3"}) {
    const Source saved = serving.Stored(id);
    EXPECT_EQ(saved.record->state, source.record->state);
    EXPECT_EQ(saved.record->last_hidden, source.record->last_hidden);
    EXPECT_EQ(saved.record->token_count, source.record->token_count);
    EXPECT_EQ(saved.record->lineage.parents, std::vector<std::string>{"s1"});
  }
}

TEST(DecodeJob, TextIsCompleteUtf8) {
  Serving serving;
  DecodeTask task = serving.Task("", 400);
  CollectingSink sink;
  ASSERT_TRUE(serving.Submit(task, &sink).ok());
  ASSERT_TRUE(sink.Wait().ok());
  for (const v1::DecodeResponse& message : sink.messages()) {
    EXPECT_TRUE(text::IsValidUtf8(message.piece().piece().text()));
  }
  const BranchText branch = Branches(sink.messages()).at(0);
  EXPECT_EQ(branch.raw.size(), branch.tokens.size());
}

TEST(DecodeJob, AFailedPutIsAnErrorAndNotALostAcknowledgement) {
  Serving serving;
  serving.store.FailPuts(QuotaError("state store bytes", "the disk is full", {}));
  DecodeTask task = serving.Task("abc", 4);
  task.branches = 2;
  task.save.emplace();
  CollectingSink sink;
  ASSERT_TRUE(serving.Submit(task, &sink).ok());
  const absl::Status status = sink.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is full"));
  for (const auto& [index, branch] : Branches(sink.messages())) EXPECT_EQ(branch.finishes, 0);
  // It goes on serving.
  serving.store.FailPuts(absl::OkStatus());
  EXPECT_EQ(serving.Decode(task).at(1).finishes, 1);
}

TEST(DecodeJob, FinishIsSentOnlyAfterTheStateIsDurable) {
  Serving serving({.slots = 2, .max_step_tokens = 8});
  serving.store.HoldPuts();
  DecodeTask task = serving.Task("abc", 4);
  task.save.emplace();
  CollectingSink sink;
  ASSERT_TRUE(serving.Submit(task, &sink).ok());
  serving.store.WaitForHeldPuts(1);
  // The loop does not wait for the store: another job runs meanwhile.
  EXPECT_EQ(serving.Decode(serving.Task("other", 3)).at(0).finishes, 1);
  EXPECT_EQ(sink.finishes(), 0);
  EXPECT_EQ(Branches(sink.messages()).at(0).finishes, 0);
  serving.store.ReleasePuts();
  ASSERT_TRUE(sink.Wait().ok());
  EXPECT_EQ(Branches(sink.messages()).at(0).finish.saved_state().name(), "states/s1");
}

TEST(DecodeJob, NoMoreStatesWaitToBeStoredThanThereAreSlots) {
  Serving serving({.slots = 2, .max_step_tokens = 8});
  serving.store.HoldPuts();
  DecodeTask task = serving.Task("abc", 4);
  task.save.emplace();
  std::vector<CollectingSink> sinks(5);
  for (CollectingSink& sink : sinks) ASSERT_TRUE(serving.Submit(task, &sink).ok());
  serving.store.WaitForHeldPuts(2);
  const SchedulerSnapshot snapshot = serving.session->scheduler->Snapshot();
  EXPECT_TRUE(snapshot.free_slots.empty());
  EXPECT_EQ(snapshot.waiting.size(), 3u);
  serving.store.ReleasePuts();
  for (CollectingSink& sink : sinks) EXPECT_TRUE(sink.Wait().ok());
  EXPECT_EQ(serving.store.puts(), 5);
  const SchedulerSnapshot after = serving.session->scheduler->Snapshot();
  EXPECT_EQ(after.free_slots.size(), 2u);
}

TEST(DecodeJob, ASlowReaderStallsOnlyItself) {
  ManualClock clock;
  Serving serving({.slots = 2, .max_step_tokens = 16}, clock);
  const DecodeTask task = serving.Task("slow", 40);
  const BranchText expected = serving.Decode(task).at(0);

  CollectingSink slow(5);
  ASSERT_TRUE(serving.Submit(task, &slow).ok());
  slow.WaitForMessages(5);
  EXPECT_EQ(serving.Decode(serving.Task("quick", 50)).at(0).finishes, 1);
  // It keeps its slot and computes nothing.
  const SchedulerSnapshot snapshot = serving.session->scheduler->Snapshot();
  ASSERT_EQ(snapshot.running.size(), 1u);
  EXPECT_EQ(snapshot.running[0].slots.size(), 1u);
  EXPECT_EQ(slow.messages().size(), 5u);
  // Time passes, but it reads now and then.
  clock.Advance(absl::Seconds(20));
  serving.session->scheduler->waker()->Wake();
  slow.Read(8);
  serving.session->scheduler->waker()->Wake();
  slow.WaitForMessages(8);
  clock.Advance(absl::Seconds(20));
  slow.Read(~uint64_t{0});
  serving.session->scheduler->waker()->Wake();
  ASSERT_TRUE(slow.Wait().ok());
  EXPECT_EQ(Branches(slow.messages()).at(0).tokens, expected.tokens);
}

TEST(DecodeJob, AReaderThatStopsReadingIsEndedAndItsSlotFreed) {
  ManualClock clock;
  Serving serving({.slots = 1, .max_step_tokens = 16}, clock);
  CollectingSink stuck(3);
  ASSERT_TRUE(serving.Submit(serving.Task("stuck", 40), &stuck).ok());
  stuck.WaitForMessages(3);
  CollectingSink next;
  ASSERT_TRUE(serving.Submit(serving.Task("next", 4), &next).ok());
  // The loop looks once at the full queue before time passes.
  EXPECT_EQ(serving.session->scheduler->Snapshot().waiting.size(), 1u);
  EXPECT_EQ(serving.session->scheduler->Snapshot().waiting.size(), 1u);
  clock.Advance(absl::Seconds(31));
  serving.session->scheduler->waker()->Wake();
  const absl::Status status = stuck.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("nothing was read for 30s"));
  EXPECT_TRUE(next.Wait().ok());
}

TEST(DecodeJob, AStateThatOverflowedIsRefusedAndServingGoesOn) {
  Serving serving;
  auto record = std::make_shared<state::Record>();
  record->fingerprint = TestWeights()->fingerprint;
  record->state = state::State::Empty(state::Shape::Of(TestWeights()->config));
  record->state.wkv.assign(record->state.wkv.size(), 3e38f);
  record->state.shift.assign(record->state.shift.size(), 3e38f);
  DecodeTask task = serving.Task("a", 4);
  task.source.record = record;
  CollectingSink sink;
  ASSERT_TRUE(serving.Submit(task, &sink).ok());
  EXPECT_EQ(sink.Wait().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(serving.Decode(serving.Task("a", 4)).at(0).finishes, 1);
}

TEST(DecodeJob, AStateThatOverflowedIsNotSaved) {
  Serving serving;
  auto record = std::make_shared<state::Record>();
  record->fingerprint = TestWeights()->fingerprint;
  record->state = state::State::Empty(state::Shape::Of(TestWeights()->config));
  record->state.wkv.assign(record->state.wkv.size(), 3e38f);
  record->state.shift.assign(record->state.shift.size(), 3e38f);
  // The first token comes from this; the state breaks when the token is read into it.
  record->last_hidden.assign(static_cast<size_t>(TestWeights()->config.width), 0.5f);
  DecodeTask task = serving.Task("", 1);
  task.source.record = record;
  task.save.emplace();
  CollectingSink sink;
  ASSERT_TRUE(serving.Submit(task, &sink).ok());
  const absl::Status status = sink.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the state overflowed"));
  EXPECT_EQ(serving.store.puts(), 0);
}

}  // namespace
}  // namespace dreamstate::server
