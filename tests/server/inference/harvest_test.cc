#include "server/inference/harvest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/rwkv/engine.h"
#include "server/inference/harvest_memory.h"
#include "server/inference/state_messages.h"
#include "tests/server/inference/grpc_fixture.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::HarvestStatesRequest Options(const std::function<void(v1::HarvestOptions&)>& change =
                                     [](v1::HarvestOptions&) {}) {
  v1::HarvestStatesRequest message;
  change(*message.mutable_options());
  return message;
}

v1::HarvestStatesRequest Document(
    const std::string& id, const std::string& text,
    const std::function<void(v1::Document&)>& change = [](v1::Document&) {}) {
  v1::HarvestStatesRequest message;
  message.mutable_document()->set_id(id);
  message.mutable_document()->mutable_content()->set_text(text);
  change(*message.mutable_document());
  return message;
}

std::vector<int64_t> Positions(const std::vector<v1::HarvestedState>& states) {
  std::vector<int64_t> positions;
  for (const v1::HarvestedState& state : states) positions.push_back(state.position());
  return positions;
}

std::string Id(const v1::HarvestedState& state) { return state.state().name().substr(7); }

TEST(HarvestStates, KeepsStatesAtPositionsThatEqualSeparateHarvests) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 13});
  const std::string text = "a document of some forty tokens or so, read in odd pieces";
  const auto harvested = grpc.Harvest({Options(), Document("doc", text, [](v1::Document& d) {
                                         for (const int p : {1, 7, 20, 57}) {
                                           d.mutable_positions()->add_values(p);
                                         }
                                       })});
  ASSERT_TRUE(harvested.status.ok()) << harvested.status.error_message();
  const std::vector<v1::HarvestedState>& states = harvested.states.at("doc");
  ASSERT_THAT(Positions(states), ElementsAre(1, 7, 20, 57));
  for (const v1::HarvestedState& state : states) {
    const std::string part = text.substr(0, static_cast<size_t>(state.position()));
    const auto separate = grpc.Harvest({Options(), Document("part", part)});
    const auto one = grpc.serving.store.Get("default", Id(state)).value();
    const auto other = grpc.serving.store.Get("default", Id(separate.states.at("part")[0])).value();
    EXPECT_EQ(one->state, other->state);
    EXPECT_EQ(one->last_hidden, other->last_hidden);
    EXPECT_EQ(one->lineage.tokens_sha256, other->lineage.tokens_sha256);
    EXPECT_EQ(one->token_count, state.position());
  }
  EXPECT_TRUE(harvested.summary_is_last);
  EXPECT_EQ(harvested.summary.documents(), 1);
  EXPECT_EQ(harvested.summary.states(), 4);
  EXPECT_EQ(harvested.summary.tokens(), 57);
}

TEST(HarvestStates, EveryNGivesTheEndToo) {
  GrpcServing grpc;
  const auto every = [](int n) { return [n](v1::Document& d) { d.set_every_n(n); }; };
  const auto harvested = grpc.Harvest({Options(), Document("a", "0123456789", every(4)),
                                       Document("b", "01234567", every(4)),
                                       Document("c", "0123", every(9)), Document("d", "01")});
  ASSERT_TRUE(harvested.status.ok());
  EXPECT_THAT(Positions(harvested.states.at("a")), ElementsAre(4, 8, 10));
  EXPECT_THAT(Positions(harvested.states.at("b")), ElementsAre(4, 8));
  EXPECT_THAT(Positions(harvested.states.at("c")), ElementsAre(4));
  EXPECT_THAT(Positions(harvested.states.at("d")), ElementsAre(2));
}

TEST(HarvestStates, SeparatorLabelsTokensAndLineageAreKept) {
  GrpcServing grpc;
  const auto harvested = grpc.Harvest({Options([](v1::HarvestOptions& o) {
                                         o.set_keep_tokens(true);
                                         o.mutable_annotations()->add_labels("all");
                                       }),
                                       Document("doc", "abc", [](v1::Document& d) {
                                         d.set_append_separator(true);
                                         d.set_label("one");
                                         d.set_every_n(2);
                                       })});
  ASSERT_TRUE(harvested.status.ok());
  const auto& states = harvested.states.at("doc");
  ASSERT_THAT(Positions(states), ElementsAre(2, 3));
  EXPECT_THAT(states[0].state().labels(), ElementsAre("all", "one"));
  const auto middle = grpc.serving.store.Get("default", Id(states[0])).value();
  const auto end = grpc.serving.store.Get("default", Id(states[1])).value();
  EXPECT_THAT(middle->lineage.kept_tokens, ElementsAre('a', 'b'));
  EXPECT_THAT(end->lineage.kept_tokens, ElementsAre('a', 'b', 'c', kSeparator));
  EXPECT_EQ(end->token_count, 4);
  EXPECT_EQ(end->lineage.operation, "harvest");
  EXPECT_EQ(end->lineage.arguments["document"], "doc");

  // Reading on from a state is the same as reading it all.
  const auto more = grpc.Harvest(
      {Options([&](v1::HarvestOptions& o) { o.set_source_state(states[0].state().name()); }),
       Document("rest", "c", [](v1::Document& d) { d.set_append_separator(true); })});
  ASSERT_TRUE(more.status.ok());
  const auto rest = grpc.serving.store.Get("default", Id(more.states.at("rest")[0])).value();
  EXPECT_EQ(rest->state, end->state);
  EXPECT_EQ(rest->token_count, 4);
  EXPECT_THAT(rest->lineage.parents, ElementsAre(Id(states[0])));
}

TEST(HarvestStates, ManyDocumentsAreReadSideBySide) {
  GrpcServing grpc({.threads = 2, .slots = 8, .max_step_tokens = 32});
  std::vector<v1::HarvestStatesRequest> messages = {Options()};
  for (int i = 0; i < 60; ++i) {
    messages.push_back(
        Document("doc" + std::to_string(i), std::string(static_cast<size_t>(1 + i * 3), 'a')));
  }
  const auto harvested = grpc.Harvest(messages);
  ASSERT_TRUE(harvested.status.ok()) << harvested.status.error_message();
  EXPECT_EQ(harvested.states.size(), 60u);
  EXPECT_EQ(harvested.summary.documents(), 60);
  EXPECT_EQ(harvested.summary.errors(), 0);
}

TEST(HarvestStates, InlineTensorsAreSentAndNothingIsStored) {
  GrpcServing grpc;
  const auto harvested =
      grpc.Harvest({Options([](v1::HarvestOptions& o) { o.set_inline_tensors(true); }),
                    Document("doc", "some text")});
  ASSERT_TRUE(harvested.status.ok());
  const v1::HarvestedState& state = harvested.states.at("doc")[0];
  EXPECT_FALSE(state.has_state());
  EXPECT_EQ(grpc.serving.store.puts(), 0);
  // They are a source.
  v1::ScoreRequest inline_score;
  *inline_score.mutable_source()->mutable_tensors() = state.tensors();
  inline_score.mutable_target()->set_text("next");
  v1::ScoreRequest plain;
  plain.mutable_context()->set_text("some text");
  plain.mutable_target()->set_text("next");
  EXPECT_NEAR(grpc.Score(inline_score).second.total_nats(), grpc.Score(plain).second.total_nats(),
              1e-5);
}

TEST(HarvestStates, InlineStatesThatDoNotFitAMessageAreDocumentErrors) {
  GrpcServing grpc({}, [](RequestLimits& limits) { limits.max_message_bytes = 10'000; });
  const auto harvested =
      grpc.Harvest({Options([](v1::HarvestOptions& o) { o.set_inline_tensors(true); }),
                    Document("doc", "some text")});
  EXPECT_TRUE(harvested.status.ok());
  EXPECT_EQ(harvested.errors.at("doc").code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(HarvestStates, BadDocumentsAnswerWithTheirFieldAndTheStreamGoesOn) {
  GrpcServing grpc({}, [](RequestLimits& limits) { limits.max_states_per_document = 10; });
  struct Case {
    std::string field;
    std::function<void(v1::Document&)> change;
  };
  const auto positions = [](std::vector<int64_t> values) {
    return [values](v1::Document& d) {
      d.mutable_positions();
      for (const int64_t value : values) d.mutable_positions()->add_values(value);
    };
  };
  const std::vector<Case> cases = {
      {"document.content", [](v1::Document& d) { d.clear_content(); }},
      {"document.content", [](v1::Document& d) { d.mutable_content()->set_text(""); }},
      {"document.content.text", [](v1::Document& d) { d.mutable_content()->set_text("a\x01"); }},
      {"document.content.tokens.ids[0]",
       [](v1::Document& d) { d.mutable_content()->mutable_tokens()->add_ids(-5); }},
      {"document.positions.values", positions({})},
      {"document.positions.values[0]", positions({0})},
      {"document.positions.values[1]", positions({2, 2})},
      {"document.positions.values[1]", positions({2, 99})},
      {"document.positions.values", positions({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})},
      {"document.every_n", [](v1::Document& d) { d.set_every_n(0); }},
      {"document.every_n", [](v1::Document& d) { d.set_every_n(1); }},
      {"document.label", [](v1::Document& d) { d.set_label(std::string(129, 'l')); }},
      {"document.label", [](v1::Document& d) { d.set_label("new\nline"); }},
      {"document.id", [](v1::Document& d) { d.set_id(std::string(257, 'i')); }},
      {"document.id", [](v1::Document& d) { d.clear_id(); }},
      {"document.id", [](v1::Document& d) { d.set_id("good"); }},
  };
  std::vector<v1::HarvestStatesRequest> messages = {Options(), Document("good", "text")};
  for (size_t i = 0; i < cases.size(); ++i) {
    messages.push_back(Document(std::to_string(i), "twelve bytes", cases[i].change));
  }
  messages.push_back(Document("last", "text"));
  grpc::ClientContext context;
  auto stream = grpc.states->HarvestStates(&context);
  for (const auto& message : messages) ASSERT_TRUE(stream->Write(message));
  stream->WritesDone();
  std::vector<std::string> errors;
  int states = 0;
  v1::HarvestSummary summary;
  for (v1::HarvestStatesResponse message; stream->Read(&message);) {
    if (message.has_error()) {
      EXPECT_EQ(message.error().code(), grpc::StatusCode::INVALID_ARGUMENT);
      errors.push_back(message.error().message());
    }
    states += message.has_state() ? 1 : 0;
    if (message.has_summary()) summary = message.summary();
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(states, 2);
  EXPECT_EQ(summary.errors(), static_cast<int64_t>(cases.size()));
  ASSERT_EQ(errors.size(), cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(errors[i].substr(0, errors[i].find(':')), cases[i].field) << errors[i];
  }
}

TEST(HarvestStates, BadStreamsNameTheField) {
  GrpcServing grpc;
  struct Case {
    std::string field;
    std::vector<v1::HarvestStatesRequest> messages;
  };
  const std::vector<Case> cases = {
      {"options", {}},
      {"options", {Document("doc", "text")}},
      {"options", {v1::HarvestStatesRequest()}},
      {"options", {Options(), Options()}},
      {"document", {Options(), v1::HarvestStatesRequest()}},
      {"options.model", {Options([](v1::HarvestOptions& o) { o.set_model("tiny"); })}},
      {"options.source_state",
       {Options([](v1::HarvestOptions& o) { o.set_source_state("nonsense"); })}},
      {"options.request_id",
       {Options([](v1::HarvestOptions& o) { o.set_request_id(std::string(129, 'r')); })}},
      {"options.annotations.labels[0]",
       {Options([](v1::HarvestOptions& o) { o.mutable_annotations()->add_labels(""); })}},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto harvested = grpc.Harvest(cases[i].messages);
    EXPECT_EQ(harvested.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << "case " << i;
    EXPECT_THAT(FieldsOf(harvested.status), ElementsAre(cases[i].field)) << "case " << i;
  }
  const auto missing =
      grpc.Harvest({Options([](v1::HarvestOptions& o) { o.set_source_state("states/missing"); })});
  EXPECT_EQ(missing.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(grpc.Harvest({Options(), Document("doc", "still serving")}).status.ok());
}

TEST(HarvestStates, AFailedPutIsADocumentErrorAndNotALostAcknowledgement) {
  GrpcServing grpc;
  grpc.serving.store.FailPuts(QuotaError("state store bytes", "the disk is full", {}));
  const auto harvested = grpc.Harvest({Options(), Document("doc", "text")});
  EXPECT_TRUE(harvested.status.ok());
  EXPECT_TRUE(harvested.states.empty());
  EXPECT_EQ(harvested.errors.at("doc").code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(harvested.errors.at("doc").message(), HasSubstr("the disk is full"));
}

TEST(HarvestStates, ARetryAnswersWithTheStatesMadeBefore) {
  GrpcServing grpc;
  const auto options = [](int time_to_live) {
    return Options([time_to_live](v1::HarvestOptions& o) {
      o.set_request_id("retry-me");
      o.mutable_annotations()->mutable_time_to_live()->set_seconds(time_to_live);
    });
  };
  const auto every_two = [](v1::Document& d) { d.set_every_n(2); };
  const auto first =
      grpc.Harvest({options(60), Document("a", "01234", every_two), Document("b", "text")});
  ASSERT_TRUE(first.status.ok());
  EXPECT_EQ(grpc.serving.store.puts(), 4);
  // One of them is lost meanwhile; it alone is made again.
  const std::string lost = Id(first.states.at("a")[1]);
  ASSERT_TRUE(grpc.serving.store.Delete("default", lost, "").ok());
  const auto second = grpc.Harvest({options(60), Document("a", "01234", every_two),
                                    Document("b", "text"), Document("c", "new")});
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(grpc.serving.store.puts(), 6);
  EXPECT_EQ(second.summary.states(), 5);
  std::map<int64_t, std::string> before, after;
  for (const auto& state : first.states.at("a")) before[state.position()] = Id(state);
  for (const auto& state : second.states.at("a")) after[state.position()] = Id(state);
  EXPECT_EQ(after[2], before[2]);
  EXPECT_NE(after[4], before[4]);
  EXPECT_EQ(after[5], before[5]);
  EXPECT_EQ(Id(second.states.at("b")[0]), Id(first.states.at("b")[0]));

  // Other content under the same names.
  const auto other_document = grpc.Harvest({options(60), Document("a", "other", every_two)});
  EXPECT_TRUE(other_document.status.ok());
  EXPECT_EQ(other_document.errors.at("a").code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(grpc.Harvest({options(61)}).status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST(HarvestStates, ARetryNeverMixesStatesOfTwoBackbones) {
  GrpcServing grpc;
  const auto options = Options([](v1::HarvestOptions& o) { o.set_request_id("retry-me"); });
  const auto document =
      Document("a", "01234", [](v1::Document& d) { d.mutable_positions()->add_values(2); });
  // What failed altogether binds the key to nothing.
  grpc.serving.store.FailPuts(QuotaError("state store bytes", "the disk is full", {}));
  ASSERT_TRUE(grpc.Harvest({options, document}).status.ok());
  grpc.serving.store.FailPuts(absl::OkStatus());
  Serving other({}, Clock::Real(), nullptr, 8);
  std::swap(grpc.serving.session, other.session);
  const auto first = grpc.Harvest({options, document});
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();

  std::swap(grpc.serving.session, other.session);
  const auto mixed = grpc.Harvest({options, document, Document("b", "more")});
  EXPECT_EQ(mixed.status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(mixed.status.error_message(), HasSubstr("options.request_id"));
  EXPECT_TRUE(mixed.states.empty());
  EXPECT_EQ(grpc.serving.store.puts(), 1);

  std::swap(grpc.serving.session, other.session);
  const auto again = grpc.Harvest({options, document, Document("b", "more")});
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(Id(again.states.at("a")[0]), Id(first.states.at("a")[0]));
  EXPECT_EQ(grpc.serving.store.puts(), 2);
}

TEST(HarvestStates, MemoryThatRunsOutIsAnAnswerAndServingGoesOn) {
  GrpcServing grpc;
  const auto options = Options([](v1::HarvestOptions& o) { o.set_request_id("key"); });
  const std::vector<v1::HarvestStatesRequest> stream = {options, Document("doc", "text")};
  const auto made = grpc.Harvest(stream);
  ASSERT_TRUE(made.status.ok());
  const std::string name = made.states.at("doc")[0].state().name();

  grpc.serving.store.RunOutOfMemory(true);
  // From what is remembered, from a new document, and from a source.
  for (const auto& again : {stream, {Options(), Document("doc", "other")}}) {
    const auto harvested = grpc.Harvest(again);
    EXPECT_TRUE(harvested.status.ok());
    EXPECT_EQ(harvested.errors.at("doc").code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_EQ(grpc.Harvest({Options([&](v1::HarvestOptions& o) { o.set_source_state(name); })})
                .status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);

  grpc.serving.store.RunOutOfMemory(false);
  EXPECT_EQ(grpc.Harvest(stream).states.at("doc")[0].state().name(), name);
}

TEST(HarvestStates, AHarvestOfAStateThatOverflowsIsADocumentError) {
  GrpcServing grpc;
  state::Record record;
  record.fingerprint = TestWeights()->fingerprint;
  record.state = state::State::Empty(state::Shape::Of(TestWeights()->config));
  record.state.wkv.assign(record.state.wkv.size(), 3e38f);
  record.state.shift.assign(record.state.shift.size(), 3e38f);
  ASSERT_TRUE(grpc.serving.store.Put("default", record, {}).ok());
  for (const bool inline_tensors : {false, true}) {
    const auto harvested = grpc.Harvest({Options([&](v1::HarvestOptions& o) {
                                           o.set_source_state("states/s1");
                                           o.set_inline_tensors(inline_tensors);
                                         }),
                                         Document("doc", "text")});
    EXPECT_TRUE(harvested.status.ok());
    EXPECT_TRUE(harvested.states.empty());
    EXPECT_EQ(harvested.errors.at("doc").code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(harvested.errors.at("doc").message(), HasSubstr("the state overflowed"));
  }
  EXPECT_EQ(grpc.serving.store.puts(), 1);
}

TEST(HarvestStates, ACancelledStreamFreesItsSlotsAndCanBeRetried) {
  GrpcServing grpc({.slots = 2, .max_step_tokens = 4});
  const auto options = Options([](v1::HarvestOptions& o) { o.set_request_id("again"); });
  const auto document =
      Document("doc", std::string(20'000, 'a'), [](v1::Document& d) { d.set_every_n(100); });
  {
    grpc::ClientContext context;
    auto stream = grpc.states->HarvestStates(&context);
    ASSERT_TRUE(stream->Write(options));
    ASSERT_TRUE(stream->Write(document));
    v1::HarvestStatesResponse message;
    ASSERT_TRUE(stream->Read(&message));
    context.TryCancel();
    while (stream->Read(&message)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  // While the first is still ending a retry is told to wait.
  GrpcServing::Harvested retry;
  do {
    retry = grpc.Harvest({options, document});
  } while (retry.status.error_code() == grpc::StatusCode::UNAVAILABLE);
  ASSERT_TRUE(retry.status.ok()) << retry.status.error_message();
  EXPECT_EQ(retry.states.at("doc").size(), 200u);
  EXPECT_EQ(grpc.serving.store.puts(), 200);
}

TEST(HarvestStates, NoMoreDocumentsAreTakenThanMayBeInFlight) {
  GrpcServing grpc({}, [](RequestLimits& limits) { limits.harvest_documents_in_flight = 2; });
  grpc.serving.store.HoldPuts();
  grpc::ClientContext context;
  auto stream = grpc.states->HarvestStates(&context);
  ASSERT_TRUE(stream->Write(Options()));
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(stream->Write(Document("doc" + std::to_string(i), "text")));
  }
  stream->WritesDone();
  grpc.serving.store.WaitForHeldPuts(2);
  EXPECT_LE(grpc.serving.session->scheduler->Snapshot().running.size(), 2u);
  grpc.serving.store.ReleasePuts();
  const auto harvested = GrpcServing::ReadAll(*stream);
  EXPECT_TRUE(harvested.status.ok());
  EXPECT_EQ(harvested.summary.documents(), 6);
}

TEST(HarvestStates, HarvestsLeaveSlotsForDecodes) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 8, .max_bulk_slots = 2});
  grpc::ClientContext context;
  auto stream = grpc.states->HarvestStates(&context);
  ASSERT_TRUE(stream->Write(Options()));
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(stream->Write(Document("doc" + std::to_string(i), std::string(100'000, 'a'))));
  }
  v1::DecodeRequest request;
  request.mutable_prompt()->set_text("quick");
  request.set_branches(2);
  request.set_max_tokens(3);
  EXPECT_TRUE(grpc.Decode(request).first.ok());
  context.TryCancel();
  EXPECT_EQ(GrpcServing::ReadAll(*stream).status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST(HarvestStates, ProgressIsTold) {
  GrpcServing grpc({},
                   [](RequestLimits& limits) { limits.harvest_progress = absl::ZeroDuration(); });
  const auto harvested = grpc.Harvest({Options(), Document("doc", std::string(2000, 'a'))});
  EXPECT_TRUE(harvested.status.ok());
  EXPECT_GT(harvested.progress, 1);
}

TEST(HarvestStates, DrainingEndsStreamsUnavailableAfterWhatRuns) {
  GrpcServing grpc({.slots = 2, .max_step_tokens = 8, .max_bulk_slots = 1});
  grpc.serving.store.HoldPuts();
  grpc::ClientContext context;
  auto stream = grpc.states->HarvestStates(&context);
  ASSERT_TRUE(stream->Write(Options()));
  ASSERT_TRUE(stream->Write(Document("runs", "text")));
  grpc.serving.store.WaitForHeldPuts(1);
  grpc.serving.session->scheduler->BeginDrain();
  ASSERT_TRUE(stream->Write(Document("late", "text")));
  stream->WritesDone();
  grpc.serving.store.ReleasePuts();
  const auto harvested = GrpcServing::ReadAll(*stream);
  EXPECT_EQ(harvested.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(harvested.states.count("runs"), 1u);
}

// Lets time pass for the streams until the client of one has seen its end.
template <typename Stream>
GrpcServing::Harvested EndOf(Stream& stream, GrpcServing& grpc, ManualClock& clock,
                             absl::Duration step) {
  GrpcServing::Harvested harvested;
  std::atomic<bool> ended = false;
  std::thread reader([&] {
    harvested = GrpcServing::ReadAll(stream);
    ended = true;
  });
  while (!ended) {
    clock.Advance(step);
    grpc.streams.VisitAll();
    std::this_thread::yield();
  }
  reader.join();
  return harvested;
}

TEST(HarvestStates, ASilentStreamIsEndedAndItsPlaceIsFree) {
  ManualClock clock;
  GrpcServing grpc(
      {},
      [](RequestLimits& limits) {
        limits.max_harvest_streams = 1;
        limits.reader_stall = absl::Hours(100);
      },
      clock);
  // One that harvested, one that sent options, one that never said a word.
  for (const int messages : {2, 1, 0}) {
    SCOPED_TRACE(messages);
    grpc::ClientContext context;
    auto stream = grpc.states->HarvestStates(&context);
    if (messages > 0) {
      ASSERT_TRUE(stream->Write(Options()));
    }
    if (messages > 1) {
      ASSERT_TRUE(stream->Write(Document("doc", "text")));
      v1::HarvestStatesResponse message;
      ASSERT_TRUE(stream->Read(&message));
      EXPECT_TRUE(message.has_state());
      // It speaks often enough.
      for (int i = 0; i < 5; ++i) {
        clock.Advance(absl::Seconds(50));
        grpc.streams.VisitAll();
        ASSERT_TRUE(stream->Write(Document("doc" + std::to_string(i), "text")));
        do {
          ASSERT_TRUE(stream->Read(&message));
        } while (!message.has_state());
      }
      EXPECT_EQ(grpc.Harvest({Options()}).status.error_code(),
                grpc::StatusCode::RESOURCE_EXHAUSTED);
    }
    const auto harvested = EndOf(*stream, grpc, clock, absl::Seconds(61));
    EXPECT_EQ(harvested.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(harvested.status.error_message(), "stream writer: nothing was sent for 1m");
    EXPECT_TRUE(grpc.Harvest({Options(), Document("doc", "text")}).status.ok());
  }
}

TEST(HarvestStates, AStreamOfWhichSomethingRunsIsNotSilent) {
  ManualClock clock;
  GrpcServing grpc(
      {}, [](RequestLimits& limits) { limits.reader_stall = absl::Hours(100); }, clock);
  grpc.serving.store.HoldPuts();
  grpc::ClientContext context;
  auto stream = grpc.states->HarvestStates(&context);
  ASSERT_TRUE(stream->Write(Options()));
  ASSERT_TRUE(stream->Write(Document("doc", "text")));
  grpc.serving.store.WaitForHeldPuts(1);
  for (int i = 0; i < 3; ++i) {
    clock.Advance(absl::Minutes(10));
    grpc.streams.VisitAll();
  }
  grpc.serving.store.ReleasePuts();
  stream->WritesDone();
  const auto harvested = GrpcServing::ReadAll(*stream);
  EXPECT_TRUE(harvested.status.ok()) << harvested.status.error_message();
  EXPECT_EQ(harvested.states.size(), 1u);
}

TEST(HarvestStates, AnswersThatNobodyReadsHoldNoPlace) {
  ManualClock clock;
  GrpcServing grpc(
      {},
      [](RequestLimits& limits) {
        limits.max_harvest_streams = 1;
        limits.stream_queue_messages = 10'000;
        limits.harvest_queue_bytes = int64_t{1} << 30;
      },
      clock);
  grpc::ClientContext context;
  auto stream = grpc.states->HarvestStates(&context);
  ASSERT_TRUE(stream->Write(Options([](v1::HarvestOptions& o) { o.set_inline_tensors(true); })));
  // Far more than what gRPC takes unread; all of it is computed.
  for (int i = 0; i < 600; ++i) {
    ASSERT_TRUE(stream->Write(Document("doc" + std::to_string(i), "text")));
  }
  stream->WritesDone();
  grpc::Status next;
  do {
    clock.Advance(absl::Seconds(20));
    grpc.streams.VisitAll();
    next = grpc.Harvest({Options(), Document("doc", "text")}).status;
  } while (next.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(next.ok()) << next.error_message();
  EXPECT_EQ(GrpcServing::ReadAll(*stream).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(HarvestStates, ADrainEndsSilentStreamsAtOnceAndOthersAfterWhatRuns) {
  GrpcServing grpc;
  grpc.serving.store.HoldPuts();
  grpc::ClientContext silent_context, mute_context, busy_context;
  auto silent = grpc.states->HarvestStates(&silent_context);
  ASSERT_TRUE(silent->Write(Options()));
  auto mute = grpc.states->HarvestStates(&mute_context);
  auto busy = grpc.states->HarvestStates(&busy_context);
  ASSERT_TRUE(busy->Write(Options()));
  ASSERT_TRUE(busy->Write(Document("doc", "text")));
  grpc.serving.store.WaitForHeldPuts(1);
  grpc.streams.BeginDrain();
  EXPECT_EQ(GrpcServing::ReadAll(*silent).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(GrpcServing::ReadAll(*mute).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  grpc.serving.store.ReleasePuts();
  const auto harvested = GrpcServing::ReadAll(*busy);
  EXPECT_EQ(harvested.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(harvested.states.count("doc"), 1u);
  // One that comes late.
  grpc::ClientContext late_context;
  auto late = grpc.states->HarvestStates(&late_context);
  EXPECT_EQ(GrpcServing::ReadAll(*late).status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(HarvestMemory, BoundsStreamsAndWhatIsRemembered) {
  RequestLimits limits;
  limits.max_harvest_streams = 2;
  limits.remembered_states = 4;
  auto memory = std::make_shared<HarvestMemory>(limits);
  auto first = memory->Open("", "").value();
  auto second = memory->Open("b", "options").value();
  EXPECT_EQ(memory->Open("", "").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(second->Recall("doc", "sha")->empty());
  second->Remember("doc", 1, "s1");
  first.reset();
  EXPECT_EQ(memory->Open("b", "options").status().code(), absl::StatusCode::kUnavailable);
  second.reset();
  {
    auto again = memory->Open("b", "options").value();
    EXPECT_EQ(again->Recall("doc", "sha")->at(1), "s1");
    EXPECT_EQ(again->Recall("doc", "other").status().code(), absl::StatusCode::kAlreadyExists);
  }
  EXPECT_EQ(memory->Open("b", "others").status().code(), absl::StatusCode::kAlreadyExists);
  {
    // Newer ones push it out.
    auto newer = memory->Open("c", "options").value();
    ASSERT_TRUE(newer->Recall("doc", "sha").ok());
    newer->Remember("doc", 1, "s2");
    newer->Remember("doc", 2, "s3");
  }
  auto forgotten = memory->Open("b", "options").value();
  EXPECT_TRUE(forgotten->Recall("doc", "sha")->empty());
}

}  // namespace
}  // namespace dreamstate::server
