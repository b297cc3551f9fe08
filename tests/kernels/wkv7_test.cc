#include "kernels/wkv7/wkv7.h"

#include <memory>

#include "kernels/wkv7/wkv7_reference.h"
#include "tests/kernels/isa_test.h"
#include "tests/support/golden.h"

namespace dreamstate::kernels {
namespace {

// Sequences with random inputs of the sizes that a model makes: decays near one, unit keys, rates
// in (0, 1).
struct Sequences {
  Sequences(int head_count, int size, std::vector<int> token_counts, uint32_t seed)
      : heads(head_count),
        head_size(size),
        tokens(std::move(token_counts)),
        total([this] {
          int sum = 0;
          for (const int count : tokens) sum += count;
          return sum;
        }()),
        width(static_cast<size_t>(heads) * head_size),
        r(RandomNormal(total * width, seed)),
        w(RandomUniform(total * width, seed + 1, 0.55f, 1.0f)),
        k(RandomNormal(total * width, seed + 2)),
        v(RandomNormal(total * width, seed + 3)),
        a(RandomUniform(total * width, seed + 4, 0.0f, 1.0f)),
        kk(RandomNormal(total * width, seed + 5)) {
    for (size_t at = 0; at < total * width; at += head_size) {
      double squares = 0.0;
      for (int i = 0; i < head_size; ++i) squares += kk[at + i] * kk[at + i];
      for (int i = 0; i < head_size; ++i) kk[at + i] /= static_cast<float>(std::sqrt(squares));
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      states.push_back(RandomNormal(width * head_size, seed + 6 + static_cast<uint32_t>(i)));
    }
  }

  int heads;
  int head_size;
  std::vector<int> tokens;
  size_t total;
  size_t width;
  Misaligned r, w, k, v, a, kk;
  std::vector<Misaligned> states;
};

// Runs some tokens of one sequence, beginning at row `first` of the inputs.
void RunRows(const Sequences& s, size_t first, int count, float* state, float* y,
             ThreadPool& pool) {
  const size_t at = first * s.width;
  Wkv7({.heads = s.heads,
        .head_size = s.head_size,
        .tokens = {&count, 1},
        .state = {&state, 1},
        .r = s.r.data() + at,
        .w = s.w.data() + at,
        .k = s.k.data() + at,
        .v = s.v.data() + at,
        .a = s.a.data() + at,
        .kk = s.kk.data() + at},
       y, pool);
}

Misaligned RunAll(Sequences& s, ThreadPool& pool) {
  std::vector<float*> states;
  for (Misaligned& state : s.states) states.push_back(state.data());
  Misaligned y(s.total * s.width);
  Wkv7({.heads = s.heads,
        .head_size = s.head_size,
        .tokens = s.tokens,
        .state = states,
        .r = s.r.data(),
        .w = s.w.data(),
        .k = s.k.data(),
        .v = s.v.data(),
        .a = s.a.data(),
        .kk = s.kk.data()},
       y.data(), pool);
  return y;
}

class Wkv7Test : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, Wkv7Test, ::testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(Wkv7Test, EveryHeadSizeAgreesWithTheReference) {
  ThreadPool pool(2);
  for (const int head_size : {16, 32, 48, 64, 80, 128, 256}) {
    Sequences s(3, head_size, {1, 5, 2}, 100 + head_size);
    std::vector<std::vector<double>> states;
    for (const Misaligned& state : s.states) states.push_back(state.Doubles());
    const Misaligned y = RunAll(s, pool);
    EXPECT_TRUE(y.GuardsIntact());
    size_t first = 0;
    for (size_t i = 0; i < s.tokens.size(); ++i) {
      const size_t at = first * s.width;
      const size_t count = s.tokens[i] * s.width;
      const auto part = [at, count](const Misaligned& from) {
        return std::vector<double>(from.data() + at, from.data() + at + count);
      };
      std::vector<double> expected(count);
      Wkv7Reference<double>(s.heads, head_size, s.tokens[i], states[i].data(), part(s.r).data(),
                            part(s.w).data(), part(s.k).data(), part(s.v).data(), part(s.a).data(),
                            part(s.kk).data(), expected.data());
      EXPECT_LT(LargestError(y.data() + at, expected.data(), count, head_size), 1e-6) << head_size;
      EXPECT_LT(LargestError(s.states[i].data(), states[i].data(), states[i].size(), 1.0), 1e-5)
          << head_size;
      EXPECT_TRUE(s.states[i].GuardsIntact());
      first += s.tokens[i];
    }
  }
}

TEST_P(Wkv7Test, SplitsOfASequenceAgreeToTheBit) {
  ThreadPool pool(2);
  constexpr int kTokens = 23;
  for (const int head_size : {48, 64}) {
    Sequences whole(2, head_size, {kTokens}, 7);
    const std::vector<float> state_before = whole.states[0].Floats();
    const Misaligned y = RunAll(whole, pool);
    for (const int piece : {1, 2, 5, 22}) {
      std::vector<float> state = state_before;
      Misaligned pieces(whole.total * whole.width);
      for (int first = 0; first < kTokens; first += piece) {
        RunRows(whole, first, std::min(piece, kTokens - first), state.data(),
                pieces.data() + first * whole.width, pool);
      }
      EXPECT_TRUE(SameBits(pieces.data(), y.data(), y.size())) << "pieces of " << piece;
      EXPECT_TRUE(SameBits(state.data(), whole.states[0].data(), state.size()))
          << "pieces of " << piece;
    }
  }
}

TEST_P(Wkv7Test, ASequenceHasTheSameBitsAloneAndInABatchOnAnyNumberOfThreads) {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Sequences batch(4, 64, {3, 1, 8, 2}, 11);
    std::vector<std::vector<float>> before;
    for (const Misaligned& state : batch.states) before.push_back(state.Floats());
    const Misaligned y = RunAll(batch, pool);
    ThreadPool one(1);
    size_t first = 0;
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      std::vector<float> alone(batch.tokens[i] * batch.width);
      RunRows(batch, first, batch.tokens[i], before[i].data(), alone.data(), one);
      EXPECT_TRUE(SameBits(alone.data(), y.data() + first * batch.width, alone.size()))
          << "sequence " << i;
      EXPECT_TRUE(SameBits(before[i].data(), batch.states[i].data(), before[i].size()))
          << "sequence " << i;
      first += batch.tokens[i];
    }
  }
}

// The operator as its authors define it, under double-precision automatic differentiation.
class Golden {
 public:
  template <typename T>
  std::vector<T> Array(const std::string& name) const {
    return arrays_.Values<T>(name);
  }

  static constexpr int kSequences = 2;
  static constexpr int kTokens = 32;
  static constexpr int kHeads = 2;
  static constexpr int kHeadSize = 64;
  static constexpr size_t kRows = size_t{kTokens} * kHeads * kHeadSize;  // elements of a sequence
  static constexpr size_t kState = size_t{kHeads} * kHeadSize * kHeadSize;

  // The inputs as the kernel takes them: the operator's a is -kk and its b is kk * rate.
  template <typename T>
  struct Inputs {
    std::vector<T> r, w, k, v, a, kk;
  };
  template <typename T>
  Inputs<T> KernelInputs() const {
    Inputs<T> in{Array<T>("r"), Array<T>("wraw"), Array<T>("k"),
                 Array<T>("v"), Array<T>("b"),    Array<T>("a")};
    for (size_t i = 0; i < in.r.size(); ++i) {
      in.w[i] = static_cast<T>(
          std::exp(-std::exp(-0.5) / (1.0 + std::exp(-static_cast<double>(in.w[i])))));
      in.kk[i] = -in.kk[i];
      in.a[i] = in.kk[i] == T(0) ? T(0) : static_cast<T>(static_cast<double>(in.a[i]) / in.kk[i]);
    }
    return in;
  }
  // [N value][N key] of each head as the kernel's [N key][N value], and back.
  template <typename T>
  static void Transpose(T* state) {
    for (int h = 0; h < kHeads; ++h) {
      for (int i = 0; i < kHeadSize; ++i) {
        for (int j = 0; j < i; ++j) {
          std::swap(state[(h * kHeadSize + i) * kHeadSize + j],
                    state[(h * kHeadSize + j) * kHeadSize + i]);
        }
      }
    }
  }

 private:
  testing::Golden arrays_{std::string(DREAMSTATE_TEST_DATA) + "/golden/wkv7_op"};
};

TEST(Wkv7Golden, TheDoubleReferenceMatchesTheOfficialOperator) {
  const Golden golden;
  const auto in = golden.KernelInputs<double>();
  for (const bool from_state : {false, true}) {
    std::vector<double> states = golden.Array<double>("S0");
    if (!from_state) std::fill(states.begin(), states.end(), 0.0);
    std::vector<double> y(in.r.size());
    for (int b = 0; b < Golden::kSequences; ++b) {
      double* state = states.data() + b * Golden::kState;
      Golden::Transpose(state);
      const size_t at = b * Golden::kRows;
      Wkv7Reference<double>(Golden::kHeads, Golden::kHeadSize, Golden::kTokens, state,
                            in.r.data() + at, in.w.data() + at, in.k.data() + at, in.v.data() + at,
                            in.a.data() + at, in.kk.data() + at, y.data() + at);
      Golden::Transpose(state);
    }
    const auto expected = golden.Array<float>(from_state ? "y_S0" : "y_zero");
    EXPECT_LT(LargestError(expected.data(), y.data(), y.size(), 1.0), 1e-6);
    if (from_state) {
      const auto expected_states = golden.Array<float>("ST_S0");
      EXPECT_LT(LargestError(expected_states.data(), states.data(), states.size(), 1.0), 1e-6);
    }
  }
}

TEST_P(Wkv7Test, MatchesTheOfficialOperator) {
  const Golden golden;
  ThreadPool pool(2);
  const auto in = golden.KernelInputs<float>();
  const std::vector<int> tokens(Golden::kSequences, Golden::kTokens);
  for (const bool from_state : {false, true}) {
    std::vector<float> states = golden.Array<float>("S0");
    if (!from_state) std::fill(states.begin(), states.end(), 0.0f);
    std::vector<float*> state(Golden::kSequences);
    for (int b = 0; b < Golden::kSequences; ++b) {
      state[b] = states.data() + b * Golden::kState;
      Golden::Transpose(state[b]);
    }
    std::vector<float> y(in.r.size());
    Wkv7({.heads = Golden::kHeads,
          .head_size = Golden::kHeadSize,
          .tokens = tokens,
          .state = state,
          .r = in.r.data(),
          .w = in.w.data(),
          .k = in.k.data(),
          .v = in.v.data(),
          .a = in.a.data(),
          .kk = in.kk.data()},
         y.data(), pool);
    const auto expected = golden.Array<double>(from_state ? "y_S0" : "y_zero");
    EXPECT_LT(LargestError(y.data(), expected.data(), y.size(), 1.0), 1e-5);
    if (from_state) {
      for (float* s : state) Golden::Transpose(s);
      const auto expected_states = golden.Array<double>("ST_S0");
      EXPECT_LT(LargestError(states.data(), expected_states.data(), states.size(), 1.0), 1e-5);
    }
  }
}

TEST_P(Wkv7Test, NotANumberStaysInItsHead) {
  ThreadPool pool(2);
  Sequences s(2, 64, {3}, 5);
  s.k[s.width + 1] = NAN;
  const Misaligned y = RunAll(s, pool);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_TRUE(std::isfinite(y[i]));                     // head 0, before it
    EXPECT_TRUE(std::isnan(y[s.width + i]));              // head 0, from then on
    EXPECT_TRUE(std::isfinite(y[2 * s.width + 64 + i]));  // head 1
  }
}

}  // namespace
}  // namespace dreamstate::kernels
