// Which states of a data set are described, and that they are those that were written.
#include "core/evaluation/chosen_states.h"

#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/strings.h"
#include "core/tensors/from_float.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::evaluation {
namespace {

using ::dreamstate::testing::TemporaryDirectory;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using training::Split;
using training::StateDataset;
using training::StateDatasetInfo;
using training::StateOrigin;

constexpr int kElements = 8;

// All entries of a state.
float ValueOf(const StateOrigin& origin) {
  return static_cast<float>(100 * origin.label + 10 * origin.document) + origin.position / 16.0f;
}

class ChosenStatesTest : public ::testing::Test {
 protected:
  ChosenStatesTest() {
    StateDatasetInfo info;
    info.backbone = "f";
    info.shape = {.layers = 1, .width = 4, .heads = 2, .head_size = 2};
    info.tokenizer = "byte";
    info.corpus = "c";
    info.labels = {"a", "b", "x_c"};
    info.trained = {true, true, false};
    info.positions = {8, 16};
    info.documents_per_shard = 3;
    info.shards[0] = 1;
    info.shards[1] = 2;
    dataset_ = StateDataset::Create(directory_ / "states", info).value();
    Write(Split::kTrain, 0, {{1, 7, 8}});
    Write(Split::kValid, 0, {{0, 0, 8}, {2, 1, 8}, {1, 2, 8}, {0, 0, 16}, {1, 2, 16}});
    Write(Split::kValid, 1, {{1, 3, 8}, {1, 3, 16}, {0, 4, 8}});
  }

  void Write(Split split, int shard, const std::vector<StateOrigin>& origins,
             const std::vector<float>& wrong = {}) {
    const auto n = static_cast<int64_t>(origins.size());
    std::vector<int32_t> labels, documents, positions;
    std::vector<float> values;
    for (const StateOrigin& origin : origins) {
      labels.push_back(origin.label);
      documents.push_back(origin.document);
      positions.push_back(origin.position);
      values.insert(values.end(), kElements, ValueOf(origin));
    }
    std::copy(wrong.begin(), wrong.end(), values.end() - static_cast<ptrdiff_t>(wrong.size()));
    std::string wkv;
    const tensors::DType exact = tensors::DType::kF32, half = tensors::DType::kF16;
    ASSERT_TRUE(tensors::AppendFromFloat(values, exact, &wkv).ok());
    const auto bytes = [](const auto& all) { return std::as_bytes(std::span(all)); };
    const auto integers = [&](const char* name, const std::vector<int32_t>& all) {
      return tensors::Tensor{name, tensors::DType::kI32, {n}, bytes(all)};
    };
    const std::string shift(static_cast<size_t>(n) * 8 * 2, '\0');
    const std::vector<tensors::Tensor> list = {integers("label", labels),
                                               integers("document", documents),
                                               integers("position", positions),
                                               {"excerpt.document", tensors::DType::kI32, {0}, {}},
                                               {"wkv", exact, {n, 1, 2, 2, 2}, bytes(wkv)},
                                               {"shift", half, {n, 1, 2, 4}, bytes(shift)},
                                               {"excerpt.activations", half, {0, 0, 0, 0}, {}}};
    ASSERT_TRUE(tensors::WriteSafetensors(dataset_->ShardPath(split, shard), list, {}).ok());
  }
  std::string Refusal(const StateChoice& choice) const {
    return std::string(ChooseStates(*dataset_, choice).status().message());
  }

  TemporaryDirectory directory_;
  std::optional<StateDataset> dataset_;
};

TEST_F(ChosenStatesTest, AreThoseOfOnePositionAndOfTrainedLabels) {
  const auto states = ChooseStates(*dataset_, {.position = 8});
  ASSERT_TRUE(states.ok()) << states.status();
  EXPECT_THAT(states->labels, ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(states->Head(0, 0, 1), Each(ValueOf({0, 0, 8})));
  EXPECT_THAT(states->Head(1, 0, 0), Each(ValueOf({1, 2, 8})));
  EXPECT_THAT(states->Head(2, 0, 1), Each(ValueOf({1, 3, 8})));
  EXPECT_THAT(states->Head(3, 0, 1), Each(ValueOf({0, 4, 8})));
  EXPECT_EQ(states->Head(3, 0, 1).size(), 4u);
  const auto later = ChooseStates(*dataset_, {.position = 16});
  EXPECT_THAT(later->labels, ElementsAre(0, 1, 1));
  EXPECT_THAT(later->Head(2, 0, 0), Each(ValueOf({1, 3, 16})));
  EXPECT_EQ(ChooseStates(*dataset_, {.split = Split::kTrain, .position = 8})->size(), 1u);
}

TEST_F(ChosenStatesTest, MoreThanAskedForAreDrawnFromBySeed) {
  std::map<float, int> drawn;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const StateChoice choice = {.position = 8, .most = 2, .seed = seed};
    const auto states = ChooseStates(*dataset_, choice);
    ASSERT_TRUE(states.ok()) << states.status();
    ASSERT_EQ(states->size(), 2u);
    EXPECT_EQ(states->wkv, ChooseStates(*dataset_, choice)->wkv);
    for (size_t i = 0; i < 2; ++i) ++drawn[states->Head(i, 0, 0)[0]];
  }
  ASSERT_EQ(drawn.size(), 4u);
  for (const auto& [value, times] : drawn) EXPECT_GT(times, 8) << value;
}

TEST_F(ChosenStatesTest, WhatIsNotThereIsSaid) {
  EXPECT_THAT(Refusal({.position = 12}), HasSubstr("has states of (8, 16), found 12"));
  EXPECT_THAT(Refusal({.position = 8, .most = 0}), HasSubstr("most: expected at least 1"));
  EXPECT_THAT(Refusal({.split = Split::kTrain, .position = 16}),
              HasSubstr("token 16 of the split train, found none"));
  std::filesystem::remove(dataset_->ShardPath(Split::kValid, 1));
  EXPECT_THAT(Refusal({.position = 8}), HasSubstr("1 of 2 shards of valid are missing"));
}

TEST_F(ChosenStatesTest, ValuesThatAreNotFiniteAreRefused) {
  Write(Split::kValid, 1, {{1, 3, 8}, {1, 3, 16}}, {std::numeric_limits<float>::quiet_NaN()});
  EXPECT_TRUE(ChooseStates(*dataset_, {.position = 8}).ok());  // it is not one of these
  EXPECT_THAT(Refusal({.position = 16}),
              HasSubstr("00001.safetensors: state 1: expected finite values"));
}

}  // namespace
}  // namespace dreamstate::evaluation
