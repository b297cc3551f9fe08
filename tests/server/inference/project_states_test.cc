// ProjectStates over a real store.
#include <cmath>
#include <thread>

#include "core/state/gram.h"
#include "core/state/projection.h"
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
using ::testing::SizeIs;

class ProjectStates : public ::testing::Test {
 protected:
  // States that differ little inside a group, and much between groups.
  v1::ProjectStatesRequest Keep(int groups, int each) {
    v1::ProjectStatesRequest request;
    for (int i = 0; i < groups * each; ++i) {
      state::Record record = states_.MakeRecord(static_cast<uint32_t>(i % groups));
      const state::Record other = states_.MakeRecord(static_cast<uint32_t>(1000 + i));
      for (size_t k = 0; k < record.state.wkv.size(); ++k) {
        record.state.wkv[k] += other.state.wkv[k] / 8;
      }
      kept_.push_back(record.state);
      request.add_names(states_.Keep(record, {"group " + std::to_string(i % groups)}));
    }
    return request;
  }
  grpc::Status Project(const v1::ProjectStatesRequest& request) {
    return states_.Call(&Stub::ProjectStates, request, &map_);
  }
  double Distance(int i, int j) const {
    return std::hypot(map_.points(i).x() - map_.points(j).x(),
                      map_.points(i).y() - map_.points(j).y());
  }
  // Whether the nearest point is of the same group, for how many points.
  int InTheirGroup(int groups) const {
    int count = 0;
    for (int i = 0; i < map_.points_size(); ++i) {
      int nearest = i == 0 ? 1 : 0;
      for (int j = 0; j < map_.points_size(); ++j) {
        if (j != i && Distance(i, j) < Distance(i, nearest)) nearest = j;
      }
      count += i % groups == nearest % groups;
    }
    return count;
  }

  StateServing states_;
  std::vector<state::State> kept_;
  v1::ProjectStatesResponse map_;
};

TEST_F(ProjectStates, PrincipalComponentsAreThoseOfTheMatrices) {
  v1::ProjectStatesRequest request = Keep(3, 4);
  for (const bool one_layer : {false, true}) {
    if (one_layer) request.add_layers(1);
    ASSERT_TRUE(Project(request).ok());
    ASSERT_EQ(map_.points_size(), 12);
    const std::vector<int> layers = one_layer ? std::vector{1} : std::vector{0, 1};
    const state::VectorSource source{
        12, layers.size() * 2 * 64 * 64, [&](int index) -> absl::StatusOr<std::vector<float>> {
          return state::MatricesWithoutGauge(kept_[static_cast<size_t>(index)], layers);
        }};
    const auto expected =
        state::PrincipalComponentsOf(state::GramOf(source, 1 << 30, nullptr).value(), nullptr);
    ASSERT_TRUE(expected.ok());
    for (int i = 0; i < 12; ++i) {
      EXPECT_EQ(map_.points(i).x(), expected->points[static_cast<size_t>(i)].x);
      EXPECT_EQ(map_.points(i).y(), expected->points[static_cast<size_t>(i)].y);
      EXPECT_EQ(map_.points(i).state().name(), request.names(i));
      EXPECT_THAT(map_.points(i).state().labels(), ElementsAre("group " + std::to_string(i % 3)));
    }
    EXPECT_THAT(map_.explained_variance(),
                ElementsAre(expected->explained[0], expected->explained[1]));
    EXPECT_EQ(InTheirGroup(3), 12);
  }
}

TEST_F(ProjectStates, NeighboursOfTsneAreOfTheirGroup) {
  v1::ProjectStatesRequest request = Keep(4, 6);
  request.set_method(v1::ProjectStatesRequest::T_SNE);
  ASSERT_TRUE(Project(request).ok());
  ASSERT_THAT(map_.points(), SizeIs(24));
  EXPECT_THAT(map_.explained_variance(), SizeIs(0));
  EXPECT_EQ(InTheirGroup(4), 24);
  const v1::ProjectStatesResponse first = map_;
  ASSERT_TRUE(Project(request).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(map_, first)) << "same seed, same map";
  request.set_perplexity(8);  // a third of 24 states
  ASSERT_TRUE(Project(request).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(map_, first));
  request.set_seed(1);
  ASSERT_TRUE(Project(request).ok());
  EXPECT_FALSE(MessageDifferencer::Equals(map_, first));
}

TEST_F(ProjectStates, StatesThatAreTheSameLieTogether) {
  v1::ProjectStatesRequest request;
  for (int i = 0; i < 3; ++i) request.add_names(states_.Keep(states_.MakeRecord(1)));
  for (const auto method : {v1::ProjectStatesRequest::PCA, v1::ProjectStatesRequest::T_SNE}) {
    request.set_method(method);
    ASSERT_TRUE(Project(request).ok());
    for (const auto& point : map_.points()) {
      EXPECT_TRUE(std::isfinite(point.x()) && std::isfinite(point.y()));
    }
  }
  request.set_method(v1::ProjectStatesRequest::PCA);
  request.add_names(states_.Keep(states_.MakeRecord(2)));
  ASSERT_TRUE(Project(request).ok());
  EXPECT_NEAR(Distance(0, 1), 0, 1e-6);
  EXPECT_GT(Distance(0, 3), 1);
}

TEST_F(ProjectStates, StatesOfTwoBackbonesAreNotOnOneMap) {
  v1::ProjectStatesRequest request = Keep(1, 3);
  state::Record record = states_.MakeRecord(1);
  record.fingerprint = std::string(64, 'b');
  request.add_names(states_.Keep(record));
  const grpc::Status status = Project(request);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  const auto failure = FindDetail<google::rpc::PreconditionFailure>(status);
  ASSERT_TRUE(failure.has_value());
  EXPECT_THAT(failure->ShortDebugString(), ::testing::HasSubstr(std::string(64, 'b')));
}

TEST_F(ProjectStates, DeletedAndUnknownStatesAreNotFound) {
  v1::ProjectStatesRequest request = Keep(1, 3);
  const std::string child = states_.Child({request.names(1)});
  ASSERT_TRUE(states_.store->Delete("default", request.names(1).substr(7), "").ok());
  EXPECT_EQ(Project(request).error_code(), StatusCode::NOT_FOUND) << "a stub is left";
  request.set_names(1, "states/01hf7yat00abcdefghjkmnpqrs");
  EXPECT_EQ(Project(request).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(ProjectStates, DescriptionsThatDoNotFitAnAnswerAreRefused) {
  v1::ProjectStatesRequest request;
  for (int i = 0; i < 40; ++i) {
    state::Record record = states_.MakeRecord(1);
    record.lineage.arguments["stop"] = std::vector<int>(20'000, 1);  // grows in the message
    request.add_names(states_.Keep(std::move(record)));
  }
  const grpc::Status status = Project(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "names");
  request.mutable_names()->DeleteSubrange(5, 35);
  EXPECT_TRUE(Project(request).ok());
}

TEST_F(ProjectStates, EndsWithItsCaller) {
  // The work of minutes: the place is free again long before that.
  v1::ProjectStatesRequest request = Keep(1, 3);
  while (request.names_size() < 2000) request.add_names(request.names(request.names_size() % 3));
  request.set_method(v1::ProjectStatesRequest::T_SNE);
  request.set_perplexity(100);
  for (int call = 0; call < 2; ++call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    EXPECT_EQ(states_.states->ProjectStates(&context, request, &map_).error_code(),
              StatusCode::DEADLINE_EXCEEDED);
  }
  request.mutable_names()->DeleteSubrange(3, 1997);
  request.clear_perplexity();
  grpc::Status status;
  do {
    status = Project(request);
  } while (status.error_code() == StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace dreamstate::server
