#include "core/diffusion/state_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "tests/core/diffusion/made_states.h"

namespace dreamstate::diffusion {
namespace {

using ::testing::HasSubstr;

std::vector<float> RoundTrip(const StateCodec& codec, const std::vector<float>& wkv) {
  const auto count = static_cast<int64_t>(wkv.size()) / kShape.wkv_elements();
  std::vector<float> code(static_cast<size_t>(count * codec.code_elements())), back(wkv.size());
  codec.Encode(wkv, code);
  codec.Decode(code, back);
  return back;
}

// Every column of every matrix loses its mean.
std::vector<float> WithoutGauge(std::vector<float> wkv) {
  const auto n = static_cast<size_t>(kShape.head_size);
  for (size_t matrix = 0; matrix < wkv.size(); matrix += n * n) {
    for (size_t key = 0; key < n; ++key) {
      double mean = 0;
      for (size_t value = 0; value < n; ++value) mean += wkv[matrix + value * n + key];
      for (size_t value = 0; value < n; ++value) {
        wkv[matrix + value * n + key] -= static_cast<float>(mean / static_cast<double>(n));
      }
    }
  }
  return wkv;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(sum / norm);
}

TEST(StateCodec, AllBlocksKeepEverythingButTheGauge) {
  const MadeStates states = MakeStates(20, 1);
  const StateCodec codec = StateCodec::Fit(kShape, states.wkv, states.shift).value();
  EXPECT_EQ(codec.tokens(), 2 * 2 * 4);
  EXPECT_EQ(codec.token_size(), 16);
  const MadeStates others = MakeStates(5, 2);
  EXPECT_LT(Distance(RoundTrip(codec, others.wkv), WithoutGauge(others.wkv)), 1e-5);
  // What only the gauge tells apart has one code.
  std::vector<float> moved = others.wkv;
  const auto n = static_cast<size_t>(kShape.head_size);
  for (size_t i = 0; i < moved.size(); ++i) moved[i] += static_cast<float>(i % n);
  std::vector<float> a(static_cast<size_t>(5 * codec.code_elements())), b(a.size());
  codec.Encode(others.wkv, a);
  codec.Encode(moved, b);
  EXPECT_LT(Distance(b, a), 1e-4);
}

TEST(StateCodec, ItsCodesHaveUnitBlocksAndTheStrongestFirst) {
  const MadeStates states = MakeStates(200, 1);
  const StateCodec codec = StateCodec::Fit(kShape, states.wkv, states.shift).value();
  std::vector<float> code(static_cast<size_t>(200 * codec.code_elements()));
  codec.Encode(states.wkv, code);
  double squares = 0;
  const auto tokens = static_cast<size_t>(codec.tokens()),
             size = static_cast<size_t>(codec.token_size());
  for (size_t state = 0; state < 200; ++state) {
    for (size_t i = 0; i < size; ++i) {
      squares += std::pow(code[state * tokens * size + i], 2);  // the first token
    }
  }
  EXPECT_NEAR(squares / static_cast<double>(200 * size), 1.0, 1e-3);
  // Two directions a matrix: the strong block has nearly all.
  const StateCodec one = StateCodec::Fit(kShape, states.wkv, states.shift, 1).value();
  EXPECT_EQ(one.tokens(), 4);
  EXPECT_LT(Distance(RoundTrip(one, states.wkv), WithoutGauge(states.wkv)), 0.4);
}

TEST(StateCodec, DecodedStatesHaveTheMeanShift) {
  const MadeStates states = MakeStates(10, 1);
  const StateCodec codec = StateCodec::Fit(kShape, states.wkv, states.shift).value();
  const std::vector<float> code(static_cast<size_t>(codec.code_elements()), 0.0f);
  const state::State state = codec.DecodeState(code);
  EXPECT_EQ(state.shape, kShape);
  ASSERT_TRUE(state.Validate().ok());
  for (size_t i = 0; i < state.shift.size(); ++i) {
    EXPECT_NEAR(state.shift[i], static_cast<float>(i % 7), 1e-6);
  }
}

TEST(StateCodec, SavedAndLoadedItIsTheSame) {
  const MadeStates states = MakeStates(10, 1);
  for (int blocks = 1; blocks <= kBlocksOfAHead; ++blocks) {
    const StateCodec codec = StateCodec::Fit(kShape, states.wkv, states.shift, blocks).value();
    const auto set = tensors::TensorSet::Make("codec", codec.ToTensors(), {}, nullptr).value();
    const StateCodec again = StateCodec::Load(set).value();
    EXPECT_EQ(again.blocks(), blocks);
    EXPECT_EQ(RoundTrip(again, states.wkv), RoundTrip(codec, states.wkv));
  }
}

TEST(StateCodec, WhatDoesNotFitIsRefused) {
  const MadeStates states = MakeStates(4, 1);
  const auto message = [&](const state::Shape& shape, std::span<const float> wkv, int blocks) {
    return std::string(StateCodec::Fit(shape, wkv, states.shift, blocks).status().message());
  };
  EXPECT_THAT(message(kShape, std::span(states.wkv).first(10), 4), HasSubstr("whole states"));
  EXPECT_THAT(message(kShape, states.wkv, 5), HasSubstr("1 to 4 blocks"));
  std::vector<float> broken = states.wkv;
  broken[7] = NAN;
  EXPECT_THAT(message(kShape, broken, 4), HasSubstr("finite"));
  const StateCodec codec = StateCodec::Fit(kShape, states.wkv, states.shift).value();
  for (size_t missing = 0; missing < 5; ++missing) {
    std::vector<tensors::Tensor> list = codec.ToTensors();
    const std::string name = list[missing].name;
    list.erase(list.begin() + static_cast<ptrdiff_t>(missing));
    const auto set = tensors::TensorSet::Make("codec", list, {}, nullptr).value();
    EXPECT_THAT(std::string(StateCodec::Load(set).status().message()), HasSubstr(name));
  }
}

}  // namespace
}  // namespace dreamstate::diffusion
