#include "server/inference/model_policy.h"

#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dreamstate::server {
namespace {

using enum VersionState;

struct Row {
  const char* promise;
  std::vector<ModelView> models;
  std::optional<LoadTarget> expected;
};

TEST(ModelPolicy, LoadsTheNewestGoodVersionOfEachModelOneAtATime) {
  const std::vector<Row> table = {
      {"nothing known", {}, std::nullopt},
      {"a model without versions", {{"a", {}}}, std::nullopt},
      {"the newest first", {{"a", {{3, kDiscovered}, {2, kDiscovered}}}}, LoadTarget{"a", 3}},
      {"the next older one after a failure",
       {{"a", {{3, kFailed}, {2, kDiscovered}, {1, kDiscovered}}}},
       LoadTarget{"a", 2}},
      {"nothing when all have failed", {{"a", {{3, kFailed}, {2, kFailed}}}}, std::nullopt},
      {"what serves stays", {{"a", {{4, kDiscovered}, {3, kServing}}}}, std::nullopt},
      {"the next model when the first serves",
       {{"a", {{1, kServing}}}, {"b", {{7, kDiscovered}}}},
       LoadTarget{"b", 7}},
      {"a model that cannot be loaded holds nobody back",
       {{"a", {{1, kFailed}}}, {"b", {{7, kDiscovered}}}},
       LoadTarget{"b", 7}},
      {"one load at a time: verifying",
       {{"a", {{1, kVerifying}}}, {"b", {{1, kDiscovered}}}},
       std::nullopt},
      {"one load at a time: loading",
       {{"a", {{1, kDiscovered}}}, {"b", {{1, kLoading}}}},
       std::nullopt},
      {"one load at a time: warming up",
       {{"a", {{2, kWarmingUp}, {1, kDiscovered}}}},
       std::nullopt},
      {"released versions are not loaded again",
       {{"a", {{2, kReleased}, {1, kDiscovered}}}},
       LoadTarget{"a", 1}},
  };
  for (const Row& row : table) EXPECT_EQ(NextLoad(row.models), row.expected) << row.promise;
}

TEST(ModelPolicy, StatesHaveNames) {
  EXPECT_EQ(VersionStateName(kDiscovered), "discovered");
  EXPECT_EQ(VersionStateName(kWarmingUp), "warming up");
  EXPECT_EQ(VersionStateName(kFailed), "failed");
}

}  // namespace
}  // namespace dreamstate::server
