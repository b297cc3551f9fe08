#include "core/rwkv/config.h"

#include <string>
#include <vector>

#include "core/rwkv/tensor_shapes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/edited_set.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::rwkv {
namespace {

using dreamstate::testing::EditedSet;
using dreamstate::testing::RandomBackbone;
using dreamstate::testing::SmallConfig;
using ::testing::HasSubstr;

TEST(Config, IsReadFromShapes) {
  EXPECT_EQ(Config::FromTensors(RandomBackbone(SmallConfig(), 1)).value(), SmallConfig());
}

TEST(Config, OneLayerHasNoValueRank) {
  Config config = SmallConfig();
  config.layers = 1;
  config.rank_value = 0;
  EXPECT_EQ(Config::FromTensors(RandomBackbone(config, 1)).value(), config);
}

TEST(Config, LeadingOnesAreSqueezed) {
  EXPECT_EQ(Squeezed({1, 1, 5}, 1), (tensors::Shape{5}));
  EXPECT_EQ(Squeezed({1, 1, 1}, 1), (tensors::Shape{1}));
  EXPECT_EQ(Squeezed({2, 5}, 1), (tensors::Shape{2, 5}));
  EXPECT_EQ(Squeezed({5}, 2), (tensors::Shape{5}));
}

TEST(Config, SaysWhatIsWrong) {
  const tensors::TensorSet good = RandomBackbone(SmallConfig(), 1);
  const std::vector<std::pair<tensors::TensorSet, std::string>> cases = {
      {EditedSet(good).Remove("emb.weight").Make(),
       "emb.weight: expected a tensor of rank 2, found none"},
      {EditedSet(good).Reshape("emb.weight", {50 * 128}).Make(), "emb.weight: expected rank 2"},
      {EditedSet(good).Reshape("blocks.0.att.r_k", {1, 128}).Make(), ""},
      {EditedSet(good).Reshape("blocks.0.att.r_k", {16, 8}).Make(), "multiple of 16"},
      {EditedSet(good).Rename("blocks.1.att.r_k", "blocks.7.att.r_k").Make(),
       "blocks.*.att.r_k: expected 8 tensors"},
      {EditedSet(good).Rename("blocks.1.att.r_k", "blocks.x.att.r_k").Make(), "found block \"x\""},
      {EditedSet(good).Rename("blocks.1.att.r_k", "blocks.99999999999999999999.att.r_k").Make(),
       "found block"},
      {EditedSet(good).Remove("blocks.1.att.v1").Make(), "blocks.1.att.v1"},
      {EditedSet(good).Remove("blocks.0.ffn.key.weight").Make(), "blocks.0.ffn.key.weight"},
      {tensors::TensorSet(), "emb.weight"},
  };
  for (const auto& [set, message] : cases) {
    const absl::StatusOr<Config> config = Config::FromTensors(set);
    if (message.empty()) {
      // One head of 128: unusual, but a model.
      EXPECT_EQ(config->heads, 1);
      continue;
    }
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(message));
  }
}

}  // namespace
}  // namespace dreamstate::rwkv
