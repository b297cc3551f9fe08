#include "core/rwkv/weights.h"

#include <string>
#include <vector>

#include "core/rwkv/footprint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/edited_set.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::rwkv {
namespace {

using dreamstate::testing::EditedSet;
using dreamstate::testing::EngineFixture;
using dreamstate::testing::RandomBackbone;
using dreamstate::testing::SmallConfig;
using ::testing::HasSubstr;

TEST(Weights, CarryTheFingerprintOfTheirTensors) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 1);
  const auto fp32 = Weights::Load(set, WeightFormat::kFloat32).value();
  const auto bf16 = Weights::Load(set, WeightFormat::kBfloat16).value();
  EXPECT_EQ(fp32->fingerprint, tensors::Fingerprint(set));
  EXPECT_EQ(bf16->fingerprint, fp32->fingerprint);
  EXPECT_NE(
      fp32->fingerprint,
      Weights::Load(RandomBackbone(SmallConfig(), 2), WeightFormat::kFloat32).value()->fingerprint);
}

TEST(Weights, StopAtEveryTensorWhenTold) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 1);
  const auto load = [&](int stop_at, int* asked) {
    *asked = 0;
    return Weights::Load(set, WeightFormat::kBfloat16, FormatPolicy::Default(),
                         [=] { return (*asked)++ == stop_at; });
  };
  int all = 0;
  ASSERT_TRUE(load(-1, &all).ok());
  // Once when it is packed, once when it is hashed.
  EXPECT_GE(all, 2 * static_cast<int>(set.tensors().size()) - 3);  // layer 0 ignores v0, v1, v2
  for (int i = 0; i < all; ++i) {
    int asked = 0;
    EXPECT_TRUE(absl::IsCancelled(load(i, &asked).status())) << i;
    EXPECT_EQ(asked, i + 1);
  }
}

TEST(Weights, AStepReadsHalfAsMuchInBf16) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 1);
  const auto fp32 = Weights::Load(set, WeightFormat::kFloat32).value();
  const auto bf16 = Weights::Load(set, WeightFormat::kBfloat16).value();
  EXPECT_LT(bf16->step_bytes, fp32->step_bytes * 0.6);
  EXPECT_GT(bf16->step_bytes, fp32->step_bytes * 0.4);
  EXPECT_GT(fp32->bytes, fp32->step_bytes);
}

TEST(Weights, Int8HoldsWhatThePolicyNamesAndTheRestInBf16) {
  const Config config = SmallConfig();
  const tensors::TensorSet set = RandomBackbone(config, 1);
  const auto bf16 = Weights::Load(set, WeightFormat::kBfloat16).value();
  const auto int8 = Weights::Load(set, WeightFormat::kInt8).value();
  EXPECT_EQ(bf16->matrices, (std::array<int, 3>{0, 27, 0}));
  EXPECT_EQ(int8->matrices, (std::array<int, 3>{0, 14, 13}));  // low-rank ones stay
  EXPECT_EQ(int8->layers[0].time_mix.w1.format(), WeightFormat::kBfloat16);
  EXPECT_EQ(int8->fingerprint, bf16->fingerprint);
  EXPECT_LT(int8->step_bytes, bf16->step_bytes * 0.75);

  FormatPolicy policy;
  policy.int8[static_cast<int>(MatrixKind::kFfnKey)] = true;
  const auto one_kind = Weights::Load(set, WeightFormat::kInt8, policy).value();
  EXPECT_EQ(one_kind->matrices, (std::array<int, 3>{0, 25, 2}));
  for (const LayerWeights& layer : one_kind->layers) {
    EXPECT_EQ(layer.channel_mix.key.format(), WeightFormat::kInt8);
    EXPECT_EQ(layer.channel_mix.value.format(), WeightFormat::kBfloat16);
    EXPECT_EQ(layer.time_mix.key.format(), WeightFormat::kBfloat16);
  }
  // No kind in int8 is bf16.
  EngineFixture none(set, WeightFormat::kBfloat16);
  kernels::ThreadPool pool(1);
  Engine same(Weights::Load(set, WeightFormat::kInt8, FormatPolicy()).value(), {}, pool);
  same.slots().Clear(0);
  const std::vector<int32_t> tokens = {1, 2, 3};
  std::vector<float> logits(config.vocab);
  Segment segment{.slot = 0, .tokens = tokens};
  segment.logits = logits.data();
  ASSERT_TRUE(same.Forward({&segment, 1}).ok());
  EXPECT_EQ(none.Read(0, tokens, 3), logits);
}

TEST(Weights, ShapesAndTensorsOfNoUseAreRefusedByName) {
  const tensors::TensorSet good = RandomBackbone(SmallConfig(), 1);
  const std::vector<std::pair<tensors::TensorSet, std::string>> cases = {
      {EditedSet(good).Remove("blocks.1.att.w2").Make(),
       "blocks.1.att.w2: expected [24, 128], found none (edited)"},
      {EditedSet(good).Reshape("blocks.1.att.w2", {128, 24}).Make(),
       "blocks.1.att.w2: expected [24, 128], found f32 [128, 24] (edited)"},
      {EditedSet(good).Reshape("head.weight", {128, 50}).Make(),
       "head.weight: expected [50, 128], found f32 [128, 50]"},
      {EditedSet(good).Add("ln_out.weight", "blocks.1.att.extra").Make(),
       "blocks.1.att.extra: expected no such tensor"},
      {EditedSet(good).Retype("ln_out.bias", tensors::DType::kI32).Make(), "ln_out.bias"},
      {EditedSet(good).Poison("blocks.0.att.key.weight", 17).Make(),
       "blocks.0.att.key.weight: expected finite values, found nan at element 17"},
      {EditedSet(good).Poison("emb.weight", 0).Make(), "emb.weight: expected finite values"},
  };
  for (const auto& [set, message] : cases) {
    const auto weights = Weights::Load(set, WeightFormat::kBfloat16);
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(weights.status().message()), HasSubstr(message));
  }
}

// What rounds to infinity would make NaN of outputs that do not even use it.
TEST(Weights, ValuesThatBf16CannotHoldAreRefusedWhereTheyWouldBeBf16) {
  const tensors::TensorSet good = RandomBackbone(SmallConfig(), 1);
  const auto with = [&](const char* name, float value) {
    return EditedSet(good).Poison(name, 17, value).Make();
  };
  const auto says = [](const tensors::TensorSet& set, WeightFormat format) {
    return std::string(Weights::Load(set, format).status().message());
  };
  const char* key = "blocks.0.att.key.weight";
  const char* w1 = "blocks.1.att.w1";  // bf16 where others are int8
  for (const float value : {3.4e38f, -3.4e38f}) {
    EXPECT_THAT(says(with(key, value), WeightFormat::kBfloat16),
                HasSubstr("blocks.0.att.key.weight: expected values that bf16 can hold"));
    EXPECT_THAT(says(with(w1, value), WeightFormat::kInt8),
                HasSubstr("blocks.1.att.w1: expected values that bf16 can hold"));
    EXPECT_EQ(says(with(key, value), WeightFormat::kInt8), "");
    EXPECT_EQ(says(with(key, value), WeightFormat::kFloat32), "");
    EXPECT_EQ(says(with(w1, value), WeightFormat::kFloat32), "");
  }
  EXPECT_EQ(says(with(key, 3.39e38f), WeightFormat::kBfloat16), "");
}

// An arena has address space for what it is to hold, not for fp32 whatever the format.
TEST(Weights, TheArenaIsAsLargeAsTheFormatNeeds) {
  Config config = SmallConfig();
  config.width = 512;
  config.heads = 8;
  config.ffn_width = 2048;
  config.layers = 4;
  const tensors::TensorSet set = RandomBackbone(config, 1);
  for (const WeightFormat format :
       {WeightFormat::kFloat32, WeightFormat::kBfloat16, WeightFormat::kInt8}) {
    const auto weights = Weights::Load(set, format).value();
    // All matrices lie in it: what else a step reads is vectors.
    EXPECT_GT(static_cast<double>(weights->arena->used_bytes()), 0.98 * weights->step_bytes);
    constexpr int64_t kHugePage = 2 << 20;
    EXPECT_LT(static_cast<int64_t>(weights->arena->capacity_bytes()),
              EstimateLoadBytes(set, format) + kHugePage);
  }
}

TEST(Weights, OfficialShapesAndDummiesOfLayerZeroAreAccepted) {
  const tensors::TensorSet good = RandomBackbone(SmallConfig(), 1);
  EditedSet edited(good);
  for (const char* name : {"x_r", "w0", "k_k"})
    edited.Reshape(std::string("blocks.0.att.") + name, {1, 1, 128});
  edited.Add("blocks.1.att.v1", "blocks.0.att.v1")
      .Add("blocks.1.att.v2", "blocks.0.att.v2")
      .Add("blocks.1.att.v0", "blocks.0.att.v0");
  EngineFixture official(edited.Make(), WeightFormat::kFloat32);
  EngineFixture plain(good, WeightFormat::kFloat32);
  const std::vector<int32_t> tokens = {1, 2, 3};
  EXPECT_EQ(official.Read(0, tokens, 3), plain.Read(0, tokens, 3));
}

TEST(WeightFormat, NamesAreReadBack) {
  for (const WeightFormat format :
       {WeightFormat::kFloat32, WeightFormat::kBfloat16, WeightFormat::kInt8}) {
    EXPECT_EQ(ParseWeightFormat(WeightFormatName(format)).value(), format);
  }
  EXPECT_THAT(std::string(ParseWeightFormat("fp8").status().message()),
              HasSubstr("expected fp32, bf16 or int8, found \"fp8\""));
}

}  // namespace
}  // namespace dreamstate::rwkv
