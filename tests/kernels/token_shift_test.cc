#include "kernels/token_shift/token_shift.h"

#include "kernels/token_shift/token_shift_reference.h"
#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

struct Shift {
  Shift(int row_width, std::vector<int> token_counts, int mix_count, uint32_t seed)
      : width(row_width), tokens(std::move(token_counts)) {
    for (const int count : tokens) rows += count;
    x = std::make_unique<Misaligned>(RandomNormal(static_cast<size_t>(rows) * width, seed));
    for (size_t i = 0; i < tokens.size(); ++i) carried.push_back(RandomNormal(width, ++seed));
    for (int m = 0; m < mix_count; ++m) {
      mixes.push_back(RandomNormal(width, ++seed));
      out.emplace_back(static_cast<size_t>(rows) * width);
    }
  }

  void Run(ThreadPool& pool) {
    std::vector<float*> carried_pointers;
    for (Misaligned& c : carried) carried_pointers.push_back(c.data());
    std::vector<const float*> mix_pointers;
    for (const Misaligned& m : mixes) mix_pointers.push_back(m.data());
    std::vector<float*> out_pointers;
    for (Misaligned& o : out) out_pointers.push_back(o.data());
    TokenShift({.width = width,
                .tokens = tokens,
                .carried = carried_pointers,
                .x = x->data(),
                .mixes = mix_pointers,
                .out = out_pointers},
               pool);
  }

  int width;
  std::vector<int> tokens;
  int rows = 0;
  std::unique_ptr<Misaligned> x;
  std::vector<Misaligned> carried;
  std::vector<Misaligned> mixes;
  std::vector<Misaligned> out;
};

class TokenShiftTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, TokenShiftTest, testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(TokenShiftTest, OddWidthsAgreeWithTheReferenceAndCarryTheLastRow) {
  ThreadPool pool(2);
  for (const int width : {1, 7, 16, 33, 100, 768}) {
    for (const int mix_count : {1, 6}) {
      Shift shift(width, {1, 13, 2, 60}, mix_count, 3);
      std::vector<std::vector<double>> carried;
      for (const Misaligned& c : shift.carried) carried.push_back(c.Doubles());
      shift.Run(pool);
      const std::vector<double> x = shift.x->Doubles();
      int first = 0;
      for (size_t i = 0; i < shift.tokens.size(); ++i) {
        const size_t at = static_cast<size_t>(first) * width;
        const size_t count = static_cast<size_t>(shift.tokens[i]) * width;
        for (int m = 0; m < mix_count; ++m) {
          std::vector<double> expected(count);
          TokenShiftReference<double>(carried[i].data(), x.data() + at,
                                      shift.mixes[m].Doubles().data(), shift.tokens[i], width,
                                      expected.data());
          EXPECT_LT(LargestError(shift.out[m].data() + at, expected.data(), count, 1.0), 1e-6);
          EXPECT_TRUE(shift.out[m].GuardsIntact());
        }
        EXPECT_TRUE(SameBits(shift.carried[i].data(), shift.x->data() + at + count - width, width));
        EXPECT_TRUE(shift.carried[i].GuardsIntact());
        first += shift.tokens[i];
      }
    }
  }
}

TEST_P(TokenShiftTest, SplitsAndBatchesAndThreadsAgreeToTheBit) {
  ThreadPool one(1);
  Shift whole(70, {300}, 6, 9);
  const std::vector<float> carried = whole.carried[0].Floats();
  whole.Run(one);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (const int piece : {1, 7, 128}) {
      std::vector<float> state = carried;
      for (int first = 0; first < 300; first += piece) {
        // Beside another sequence, which comes before it.
        Shift part(70, {2, std::min(piece, 300 - first)}, 6, 9);
        std::memcpy(part.carried[1].data(), state.data(), 70 * sizeof(float));
        const size_t count = static_cast<size_t>(part.tokens[1]) * 70;
        std::memcpy(part.x->data() + 140, whole.x->data() + first * 70, count * sizeof(float));
        for (int m = 0; m < 6; ++m)
          std::memcpy(part.mixes[m].data(), whole.mixes[m].data(), 70 * sizeof(float));
        part.Run(pool);
        for (int m = 0; m < 6; ++m) {
          ASSERT_TRUE(SameBits(part.out[m].data() + 140, whole.out[m].data() + first * 70, count));
        }
        state = part.carried[1].Floats();
      }
      EXPECT_TRUE(SameBits(state.data(), whole.carried[0].data(), 70));
    }
  }
}

}  // namespace
}  // namespace dreamstate::kernels
