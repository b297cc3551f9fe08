// DeleteStates, DescribeState, CompareStates, GetLineage, pages of ListStates and request ids.
#include <map>
#include <set>
#include <thread>

#include "core/base/mutex.h"
#include "core/state/geometry.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/server/inference/state_serving.h"

namespace dreamstate::server {
namespace {

using google::protobuf::util::MessageDifferencer;
using grpc::StatusCode;
using Stub = v1::StateService::Stub;
using ::testing::ElementsAre;
using testing::FieldOf;
using testing::FindDetail;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StateGraphs : public ::testing::Test {
 protected:
  std::string Keep(std::vector<std::string> labels = {}, const std::string& model = "tiny") {
    state::Record record = states_.MakeRecord(1);
    record.model = model;
    return states_.Keep(std::move(record), std::move(labels));
  }
  grpc::Status Delete(const v1::DeleteStatesRequest& request) {
    return states_.Call(&Stub::DeleteStates, request, &deleted_);
  }
  grpc::Status Lineage(const v1::GetLineageRequest& request) {
    return states_.Call(&Stub::GetLineage, request, &lineage_);
  }
  grpc::Status Lineage(const std::string& name, int ancestors = 0, int descendants = 0) {
    v1::GetLineageRequest request;
    request.set_name(name);
    request.set_ancestor_generations(ancestors);
    request.set_descendant_generations(descendants);
    return Lineage(request);
  }
  std::vector<std::string> Shown() {
    std::vector<std::string> names;
    for (const v1::State& state : lineage_.states()) names.push_back(state.name());
    return names;
  }
  std::vector<std::string> Left() {
    std::vector<std::string> names;
    v1::ListStatesRequest request;
    request.set_page_size(1000);
    v1::ListStatesResponse page;
    do {
      EXPECT_TRUE(states_.Call(&Stub::ListStates, request, &page).ok());
      for (const v1::State& state : page.states()) names.push_back(state.name());
      request.set_page_token(page.next_page_token());
    } while (!page.next_page_token().empty());
    return names;
  }
  void Remove(const std::string& name) {
    ASSERT_TRUE(states_.store->Delete("default", name.substr(7), "").ok());
  }

  StateServing states_;
  v1::DeleteStatesResponse deleted_;
  v1::GetLineageResponse lineage_;
};

TEST_F(StateGraphs, DeletesWhatFitsAllFilters) {
  const std::string a = Keep({"x", "y"}), b = Keep({"x"}), c = Keep({"x", "y"}, "other");
  v1::DeleteStatesRequest request;
  request.add_labels("y");
  request.add_labels("x");
  request.set_model("models/tiny");
  request.set_dry_run(true);
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_EQ(deleted_.states(), 1);
  EXPECT_EQ(deleted_.bytes(), (2 * 2 * 128 + 2 * 2 * 64 * 64 + 128) * 4);
  EXPECT_THAT(deleted_.sample(), ElementsAre(a));
  EXPECT_THAT(Left(), ElementsAre(c, b, a));
  request.set_dry_run(false);
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_THAT(deleted_.sample(), ElementsAre(a));
  EXPECT_THAT(Left(), ElementsAre(c, b));
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_EQ(deleted_.states(), 0);
}

TEST_F(StateGraphs, DeletesByParentFingerprintAndTime) {
  const std::string parent = Keep(), other = Keep();
  const std::string child = states_.Child({parent});
  v1::DeleteStatesRequest request;
  request.set_parent(parent);
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_THAT(Left(), ElementsAre(other, parent));

  request.Clear();
  request.set_backbone_fingerprint(std::string(64, 'c'));
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_EQ(deleted_.states(), 0);

  // To the nanosecond of the time that a state tells.
  v1::GetStateRequest get;
  get.set_name(other);
  v1::State state;
  ASSERT_TRUE(states_.Call(&Stub::GetState, get, &state).ok());
  request.Clear();
  *request.mutable_created_before() = state.created();
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_THAT(Left(), ElementsAre(other));
  request.mutable_created_before()->set_seconds(state.created().seconds() + 1);
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(StateGraphs, WithoutAFilterOnlyAllDeletes) {
  const std::string parent = Keep();
  states_.Child({parent});
  v1::DeleteStatesRequest request;
  const grpc::Status status = Delete(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "all");
  EXPECT_THAT(Left(), SizeIs(2));
  request.set_all(true);
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_EQ(deleted_.states(), 2);
  EXPECT_EQ(states_.store->Stats().states, 0);
}

TEST_F(StateGraphs, ManyPagesAreDeletedAndASampleIsNamed) {
  std::vector<std::string> names;
  for (int i = 0; i < 150; ++i) names.insert(names.begin(), Keep({"x"}));
  const std::string kept = Keep();
  v1::DeleteStatesRequest request;
  request.add_labels("x");
  for (const bool dry_run : {true, false}) {
    request.set_dry_run(dry_run);
    ASSERT_TRUE(Delete(request).ok());
    EXPECT_EQ(deleted_.states(), 150);
    names.resize(100);
    EXPECT_THAT(deleted_.sample(), ::testing::ElementsAreArray(names));
  }
  EXPECT_THAT(Left(), ElementsAre(kept));
}

TEST_F(StateGraphs, DeletesAtTheSameTimeShareTheWork) {
  for (int i = 0; i < 100; ++i) Keep({"x"});
  std::vector<v1::DeleteStatesResponse> answers(4);
  std::vector<std::thread> threads;
  v1::DeleteStatesRequest request;
  request.add_labels("x");
  for (v1::DeleteStatesResponse& answer : answers) {
    threads.emplace_back([&] {
      const grpc::Status status = states_.Call(&Stub::DeleteStates, request, &answer);
      EXPECT_TRUE(status.ok()) << status.error_message();
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t sum = 0;
  for (const v1::DeleteStatesResponse& answer : answers) sum += answer.states();
  EXPECT_EQ(sum, 100);
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(StateGraphs, ARetriedDeleteAnswersAsTheFirstDid) {
  Keep({"x"});
  v1::DeleteStatesRequest request;
  request.add_labels("x");
  request.set_request_id("once");
  ASSERT_TRUE(Delete(request).ok());
  const std::string first = deleted_.SerializeAsString();
  const std::string later = Keep({"x"});
  ASSERT_TRUE(Delete(request).ok());
  EXPECT_EQ(deleted_.SerializeAsString(), first);
  EXPECT_THAT(Left(), ElementsAre(later));
  request.set_dry_run(true);
  EXPECT_EQ(Delete(request).error_code(), StatusCode::ALREADY_EXISTS);

  v1::DeleteStateRequest one;
  one.set_name(later);
  one.set_request_id("once");  // of another method
  v1::DeleteStateResponse response;
  ASSERT_TRUE(states_.Call(&Stub::DeleteState, one, &response).ok());
  EXPECT_TRUE(states_.Call(&Stub::DeleteState, one, &response).ok());
  one.clear_request_id();
  EXPECT_EQ(states_.Call(&Stub::DeleteState, one, &response).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(StateGraphs, ARetriedUpdateAnswersAsTheFirstDidAndFailuresAreTriedAgain) {
  v1::UpdateStateRequest request;
  request.set_name(Keep());
  request.set_request_id("once");
  request.set_etag("stale");
  request.mutable_annotations()->add_labels("new");
  v1::State first, second;
  EXPECT_EQ(states_.Call(&Stub::UpdateState, request, &first).error_code(), StatusCode::ABORTED);
  v1::GetStateRequest get;
  get.set_name(request.name());
  ASSERT_TRUE(states_.Call(&Stub::GetState, get, &first).ok());
  request.set_etag(first.etag());
  ASSERT_TRUE(states_.Call(&Stub::UpdateState, request, &first).ok());
  ASSERT_TRUE(states_.Call(&Stub::UpdateState, request, &second).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(first, second));
  request.set_etag("");
  EXPECT_EQ(states_.Call(&Stub::UpdateState, request, &second).error_code(),
            StatusCode::ALREADY_EXISTS);
  request.set_request_id(std::string(129, 'x'));
  EXPECT_EQ(FieldOf(states_.Call(&Stub::UpdateState, request, &second)), "request_id");
}

TEST_F(StateGraphs, DescribesEveryHead) {
  const state::Record record = states_.MakeRecord(3);
  v1::DescribeStateRequest request;
  request.set_name(states_.Keep(record, {"x"}));
  v1::DescribeStateResponse response;
  ASSERT_TRUE(states_.Call(&Stub::DescribeState, request, &response).ok());
  EXPECT_EQ(response.state().name(), request.name());
  EXPECT_THAT(response.state().labels(), ElementsAre("x"));
  ASSERT_EQ(response.heads_size(), 4);
  for (int i = 0; i < 4; ++i) {
    const state::HeadGeometry expected =
        state::GeometryOf(state::HeadOf(record.state, i / 2, i % 2), 64);
    EXPECT_EQ(response.heads(i).rms(), static_cast<float>(expected.rms));
    EXPECT_EQ(response.heads(i).spectral_norm(), static_cast<float>(expected.spectral_norm));
    EXPECT_EQ(response.heads(i).stable_rank(), static_cast<float>(expected.stable_rank));
  }
  ASSERT_EQ(response.time_mix_shift_rms_size(), 2);
  ASSERT_EQ(response.channel_mix_shift_rms_size(), 2);
  EXPECT_EQ(response.channel_mix_shift_rms(1),
            static_cast<float>(state::RootMeanSquare(state::ShiftOf(record.state, 1, 1))));
}

TEST_F(StateGraphs, DescriptionsLeaveThreadsForTheStore) {
  // The executor's threads are taken, so that calls which found a place keep it.
  Mutex mutex;
  ConditionVariable changed;
  bool released = false;
  int refused = 0;
  for (int thread = 0; thread < 2; ++thread) {
    ASSERT_TRUE(states_.serving.executor.TrySubmit([&] {
      MutexLock lock(mutex);
      while (!released) changed.Wait(mutex);
    }));
  }
  v1::DescribeStateRequest request;
  request.set_name(states_.Keep(states_.MakeRecord(1)));
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      v1::DescribeStateResponse response;
      const grpc::Status status = states_.Call(&Stub::DescribeState, request, &response);
      MutexLock lock(mutex);
      if (!status.ok()) {
        EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
        ++refused;
      }
      released = true;  // the first answer is the refusal
      changed.NotifyAll();
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(refused, 1);
  // The places are free again.
  v1::DescribeStateResponse response;
  EXPECT_TRUE(states_.Call(&Stub::DescribeState, request, &response).ok());
}

TEST_F(StateGraphs, ComparesTwoStates) {
  const std::string a = states_.Keep(states_.MakeRecord(1)),
                    same = states_.Keep(states_.MakeRecord(1));
  state::Record turned = states_.MakeRecord(1);
  for (float& value : turned.state.wkv) value = -value;
  const std::string b = states_.Keep(turned);
  v1::CompareStatesRequest request;
  request.set_first(a);
  request.set_second(same);
  v1::CompareStatesResponse response;
  ASSERT_TRUE(states_.Call(&Stub::CompareStates, request, &response).ok());
  EXPECT_TRUE(response.identical());
  EXPECT_EQ(response.total().cosine(), 1);
  EXPECT_EQ(response.total().relative_distance(), 0);
  ASSERT_EQ(response.heads_size(), 4);
  ASSERT_EQ(response.time_mix_shift_size(), 2);
  ASSERT_EQ(response.channel_mix_shift_size(), 2);

  request.set_second(b);
  ASSERT_TRUE(states_.Call(&Stub::CompareStates, request, &response).ok());
  EXPECT_FALSE(response.identical());
  EXPECT_EQ(response.total().cosine(), -1);
  EXPECT_EQ(response.total().relative_distance(), 2);
  EXPECT_EQ(response.heads(3).cosine(), -1);
  EXPECT_EQ(response.time_mix_shift(1).relative_distance(), 0);

  // A last hidden vector alone makes a difference, too.
  state::Record hidden = states_.MakeRecord(1);
  hidden.last_hidden[0] += 1;
  request.set_second(states_.Keep(hidden));
  ASSERT_TRUE(states_.Call(&Stub::CompareStates, request, &response).ok());
  EXPECT_EQ(response.total().relative_distance(), 0);
  EXPECT_FALSE(response.identical());
}

TEST_F(StateGraphs, StatesOfTwoBackbonesAreNotCompared) {
  state::Record record = states_.MakeRecord(1);
  record.fingerprint = std::string(64, 'b');
  v1::CompareStatesRequest request;
  request.set_first(Keep());
  request.set_second(states_.Keep(record));
  v1::CompareStatesResponse response;
  const grpc::Status status = states_.Call(&Stub::CompareStates, request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(FindDetail<google::rpc::PreconditionFailure>(status).has_value());
}

TEST_F(StateGraphs, AncestorsComeBreadthFirstEachOnce) {
  // A diamond with a tail: e <- {c, d} <- b <- a.
  const std::string a = Keep(), b = states_.Child({a}), c = states_.Child({b}),
                    d = states_.Child({b, a}), e = states_.Child({c, d});
  ASSERT_TRUE(Lineage(e).ok());
  EXPECT_THAT(Shown(), ElementsAre(e, c, d, b, a));
  EXPECT_FALSE(lineage_.truncated());
  EXPECT_THAT(lineage_.unknown(), IsEmpty());
  EXPECT_THAT(lineage_.states(0).lineage().parents(), ElementsAre(c, d));
  EXPECT_THAT(lineage_.states(0).lineage().kept_tokens(), IsEmpty());

  ASSERT_TRUE(Lineage(e, 1).ok());
  EXPECT_THAT(Shown(), ElementsAre(e, c, d));
  EXPECT_TRUE(lineage_.truncated());
  ASSERT_TRUE(Lineage(e, 3).ok());
  EXPECT_FALSE(lineage_.truncated());
  ASSERT_TRUE(Lineage(a).ok());
  EXPECT_THAT(Shown(), ElementsAre(a));
}

TEST_F(StateGraphs, DescendantsFollowAncestors) {
  const std::string a = Keep(), b = states_.Child({a}), c = states_.Child({b}),
                    d = states_.Child({b}), e = states_.Child({c, d});
  ASSERT_TRUE(Lineage(b, 0, 10).ok());
  EXPECT_THAT(Shown(), ElementsAre(b, a, c, d, e));
  EXPECT_FALSE(lineage_.truncated());
  ASSERT_TRUE(Lineage(b, 0, 1).ok());
  EXPECT_THAT(Shown(), ElementsAre(b, a, c, d));
  EXPECT_TRUE(lineage_.truncated());
  ASSERT_TRUE(Lineage(b, 0, 2).ok());
  EXPECT_FALSE(lineage_.truncated());
  ASSERT_TRUE(Lineage(b).ok());
  EXPECT_THAT(Shown(), ElementsAre(b, a));
  EXPECT_FALSE(lineage_.truncated());
}

TEST_F(StateGraphs, DeletedStatesAppearAsFarAsTheirStubsTell) {
  const std::string gone = "states/01hf7yat00abcdefghjkmnpqrs";
  const std::string a = states_.Child({gone}), b = states_.Child({a}), c = states_.Child({b});
  Remove(b);
  ASSERT_TRUE(Lineage(c).ok());
  EXPECT_THAT(Shown(), ElementsAre(c, b, a));
  EXPECT_TRUE(lineage_.states(1).deleted());
  EXPECT_THAT(lineage_.unknown(), ElementsAre(gone));
  // Through the stub downwards, and from it.
  ASSERT_TRUE(Lineage(a, 0, 5).ok());
  EXPECT_THAT(Shown(), ElementsAre(a, b, c));
  ASSERT_TRUE(Lineage(b, 0, 5).ok());
  EXPECT_THAT(Shown(), ElementsAre(b, a, c));
  EXPECT_EQ(Lineage(gone).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(StateGraphs, LineagesEndAtAThousandStates) {
  const std::string a = Keep();
  for (int i = 0; i < 1005; ++i) states_.Child({a});
  ASSERT_TRUE(Lineage(a, 0, 1).ok());
  EXPECT_EQ(lineage_.states_size(), 1000);
  EXPECT_TRUE(lineage_.truncated());
}

// A store of a few descriptions that say whatever the test wants, as none of ours can.
class TwistedStore final : public state::StateStore {
 public:
  std::map<std::string, std::vector<std::string>> parents;

  absl::StatusOr<state::Description> Describe(const std::string&, const std::string& id) override {
    const auto found = parents.find(id);
    if (found == parents.end()) return absl::NotFoundError("there is none");
    state::Description description;
    description.record.id = id;
    description.record.lineage.parents = found->second;
    return description;
  }
  absl::StatusOr<state::ListPage> List(const std::string& tenant,
                                       const state::ListQuery& query) override {
    state::ListPage page;
    for (const auto& [id, of] : parents) {
      if (std::count(of.begin(), of.end(), query.parent) > 0) {
        page.states.push_back(*Describe(tenant, id));
      }
    }
    return page;
  }
  absl::StatusOr<state::Description> Put(const std::string&, state::Record,
                                         const state::Annotations&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::shared_ptr<const state::Record>> Get(const std::string&,
                                                           const std::string&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<state::Description> Update(const std::string&, const std::string&,
                                            const std::string&,
                                            const std::optional<std::vector<std::string>>&,
                                            const std::optional<absl::Duration>&) override {
    return absl::UnimplementedError("");
  }
  absl::Status Delete(const std::string&, const std::string&, const std::string&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<int> SweepExpired(int) override { return 0; }
  state::StoreStats Stats() override { return {}; }
};

TEST(StateGraphsOfTwistedStores, ParentsInACircleComeToAnEnd) {
  auto store = std::make_unique<TwistedStore>();
  store->parents = {{"a", {"b", "a"}}, {"b", {"c"}}, {"c", {"a", "unknown"}}};
  StateServing states([](RequestLimits&) {}, std::move(store));
  v1::GetLineageRequest request;
  request.set_name("states/a");
  request.set_ancestor_generations(1000);
  request.set_descendant_generations(1000);
  v1::GetLineageResponse response;
  ASSERT_TRUE(states.Call(&Stub::GetLineage, request, &response).ok());
  ASSERT_EQ(response.states_size(), 3);
  EXPECT_THAT(response.unknown(), ElementsAre("states/unknown"));
  EXPECT_FALSE(response.truncated());
}

TEST_F(StateGraphs, PagesOfLargeLineagesFitADefaultClientAndLoseNone) {
  std::set<std::string> names;
  for (int i = 0; i < 60; ++i) {
    state::Record record = states_.MakeRecord(1);
    record.lineage.arguments["stop"] = std::vector<int>(20'000, 1);  // grows in the message
    names.insert(states_.Keep(std::move(record)));
  }
  // The stub's channel takes 4 MiB, gRPC's default.
  const std::vector<std::string> listed = Left();
  EXPECT_EQ(std::set<std::string>(listed.begin(), listed.end()), names);
  EXPECT_EQ(listed.size(), names.size());
  // So does a lineage.
  const std::string a = Keep();
  for (int i = 0; i < 30; ++i) {
    state::Record record = states_.MakeRecord(1);
    record.lineage.arguments["stop"] = std::vector<int>(20'000, 1);
    record.lineage.parents = {a.substr(7)};
    states_.Keep(std::move(record));
  }
  ASSERT_TRUE(Lineage(a, 0, 1).ok());
  EXPECT_GT(lineage_.states_size(), 5);
  EXPECT_TRUE(lineage_.truncated());
}

}  // namespace
}  // namespace dreamstate::server
