#include "core/base/random.h"

#include <cmath>
#include <set>

#include "gtest/gtest.h"

namespace dreamstate {
namespace {

using Block = std::array<uint32_t, 4>;

TEST(Philox, AgreesWithTheKnownAnswersOfItsAuthors) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(DecodeUniform, IsInTheUnitIntervalWithTheRightMoments) {
  double sum = 0, squares = 0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const double u = DecodeUniform(7, 3, static_cast<uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  // Four standard errors.
  EXPECT_NEAR(sum / kDraws, 0.5, 4 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 4 * std::sqrt(4.0 / 45 / kDraws));
}

TEST(DecodeUniform, EveryWordOfSeedBranchAndPositionCounts) {
  constexpr uint64_t kHigh = uint64_t{1} << 32;
  const std::set<double> draws = {DecodeUniform(0, 0, 0),     DecodeUniform(1, 0, 0),
                                  DecodeUniform(kHigh, 0, 0), DecodeUniform(0, 1, 0),
                                  DecodeUniform(0, 0, 1),     DecodeUniform(0, 0, kHigh)};
  EXPECT_EQ(draws.size(), 6u);
}

// Seeds that users wrote down keep their meaning from release to release.
TEST(DecodeUniform, DrawsStayTheSame) {
  EXPECT_EQ(DecodeUniform(42, 1, 5), DecodeUniform(42, 1, 5));
  EXPECT_DOUBLE_EQ(DecodeUniform(0, 0, 0), 0x1.0c5a47a1b0cd4p-1);
  EXPECT_DOUBLE_EQ(DecodeUniform(1234567890123456789u, 2, 77), 0x1.879c13a440516p-2);
}

TEST(EntropyBits, DoNotRepeat) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(EntropyBits());
  EXPECT_EQ(seen.size(), 1000u);
}

}  // namespace
}  // namespace dreamstate
