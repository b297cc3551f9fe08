#include "core/state/state.h"

#include <cmath>

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::state {
namespace {

using ::testing::HasSubstr;

TEST(Shape, SizesFollowFromAConfig) {
  rwkv::Config config;
  config.layers = 3;
  config.width = 128;
  config.heads = 2;
  config.head_size = 64;
  const Shape shape = Shape::Of(config);
  EXPECT_TRUE(shape.Validate().ok());
  EXPECT_EQ(shape.shift_elements(), 3 * 2 * 128);
  EXPECT_EQ(shape.wkv_elements(), 3 * 2 * 64 * 64);
  EXPECT_EQ(shape.bytes(), (3 * 2 * 128 + 3 * 2 * 64 * 64) * 4);
}

TEST(Shape, RefusesWhatNoModelHas) {
  const int big = 2147483647;
  for (const Shape shape : {Shape{0, 4, 1, 4}, Shape{1, 0, 0, 0}, Shape{-1, 4, 1, 4},
                            Shape{1, 4, -1, -4}, Shape{1, 5, 1, 4}, Shape{big, big, 1, big},
                            Shape{1 << 20, 1 << 20, 1 << 14, 1 << 6}, Shape{1, 0, 65536, 65536}}) {
    EXPECT_EQ(DetailsOf(shape.Validate()).field, "shape")
        << shape.layers << " " << shape.width << " " << shape.heads << " " << shape.head_size;
  }
}

TEST(State, EmptyIsZeroEverywhereAndValid) {
  const State state = State::Empty({2, 8, 2, 4});
  EXPECT_TRUE(state.Validate().ok());
  EXPECT_THAT(state.shift, ::testing::AllOf(::testing::SizeIs(32), ::testing::Each(0.0f)));
  EXPECT_THAT(state.wkv, ::testing::AllOf(::testing::SizeIs(64), ::testing::Each(0.0f)));
}

TEST(State, ErrorsNameLayerAndHead) {
  State state = State::Empty({2, 8, 2, 4});
  state.wkv[16 * 3 + 4 * 2 + 1] = NAN;
  EXPECT_THAT(std::string(state.Validate().message()),
              HasSubstr("layer 1, head 1, value 2, key 1 is nan"));
  state = State::Empty({2, 8, 2, 4});
  state.shift[16 + 8 + 5] = -INFINITY;
  EXPECT_THAT(std::string(state.Validate().message()),
              HasSubstr("layer 1, channel mix, channel 5 is -inf"));
  state.shift.pop_back();
  EXPECT_THAT(std::string(state.Validate().message()), HasSubstr("expected 32 values, found 31"));
}

TEST(State, ABadValueIsFoundWhereverItIs) {
  State state = State::Empty({1, 64, 1, 64});
  for (size_t i = 0; i < state.wkv.size(); i += 97) {
    state.wkv[i] = i % 2 == 0 ? NAN : INFINITY;
    EXPECT_FALSE(state.Validate().ok()) << i;
    state.wkv[i] = 0;
  }
  EXPECT_TRUE(state.Validate().ok());
}

}  // namespace
}  // namespace dreamstate::state
