#include "kernels/wkv7_gradient/wkv7_gradient.h"

#include "kernels/wkv7_gradient/wkv7_gradient_reference.h"
#include "tests/kernels/isa_test.h"
#include "tests/support/golden.h"

namespace dreamstate::kernels {
namespace {

// Everything that goes into and comes out of one call.
struct Call {
  Wkv7TrainingShape shape;
  size_t rows, states;
  Misaligned r, w_raw, k, v, a, b, dy, initial_state, d_final_state;
  Misaligned y, final_state, dr, dw_raw, dk, dv, da, db, d_initial_state;
  bool from_state = true;

  Call(const Wkv7TrainingShape& s, uint32_t seed)
      : shape(s),
        rows(size_t{1} * s.batch * s.tokens * s.heads * s.head_size),
        states(size_t{1} * s.batch * s.heads * s.head_size * s.head_size),
        r(RandomNormal(rows, seed)),
        w_raw(RandomNormal(rows, seed + 1, 2.0f)),
        k(RandomNormal(rows, seed + 2)),
        v(RandomNormal(rows, seed + 3)),
        a(RandomNormal(rows, seed + 4)),
        b(rows),
        dy(RandomNormal(rows, seed + 5)),
        initial_state(RandomNormal(states, seed + 6)),
        d_final_state(RandomNormal(states, seed + 7)),
        y(rows),
        final_state(states),
        dr(rows),
        dw_raw(rows),
        dk(rows),
        dv(rows),
        da(rows),
        db(rows),
        d_initial_state(states) {
    // As in a model: a is minus a unit vector, b that vector times a rate in (0, 1).
    const Misaligned rate = RandomUniform(rows, seed + 8, 0.0f, 1.0f);
    for (size_t at = 0; at < rows; at += s.head_size) {
      double squares = 0.0;
      for (int i = 0; i < s.head_size; ++i) squares += a[at + i] * a[at + i];
      for (int i = 0; i < s.head_size; ++i) {
        a[at + i] /= static_cast<float>(std::sqrt(squares));
        b[at + i] = -a[at + i] * rate[at + i];
      }
    }
  }

  void Run(ThreadPool& pool) {
    const Wkv7TrainingInputs inputs = {
        .r = r.data(),
        .w_raw = w_raw.data(),
        .k = k.data(),
        .v = v.data(),
        .a = a.data(),
        .b = b.data(),
        .initial_state = from_state ? initial_state.data() : nullptr};
    Misaligned kept_states(Wkv7KeptStateFloats(shape));
    Misaligned sa(rows);
    const Wkv7Kept kept = {.states = kept_states.data(), .sa = sa.data()};
    Wkv7TrainingForward(shape, inputs, y.data(), final_state.data(), &kept, pool);
    Wkv7TrainingBackward(shape, inputs, kept, dy.data(),
                         from_state ? d_final_state.data() : nullptr,
                         {.r = dr.data(),
                          .w_raw = dw_raw.data(),
                          .k = dk.data(),
                          .v = dv.data(),
                          .a = da.data(),
                          .b = db.data(),
                          .initial_state = from_state ? d_initial_state.data() : nullptr},
                         pool);
    for (const Misaligned* array : {&y, &final_state, &dr, &dw_raw, &dk, &dv, &da, &db,
                                    &d_initial_state, &kept_states, &sa}) {
      EXPECT_TRUE(array->GuardsIntact());
    }
  }
};

// The same in double, one head after the other.
struct Expected {
  std::vector<double> y, final_state, dr, dw_raw, dk, dv, da, db, d_initial_state;

  explicit Expected(const Call& call)
      : y(call.rows),
        final_state(call.states),
        dr(call.rows),
        dw_raw(call.rows),
        dk(call.rows),
        dv(call.rows),
        da(call.rows),
        db(call.rows),
        d_initial_state(call.states) {
    const auto r = call.r.Doubles(), w_raw = call.w_raw.Doubles(), k = call.k.Doubles(),
               v = call.v.Doubles(), a = call.a.Doubles(), b = call.b.Doubles(),
               dy = call.dy.Doubles(), initial = call.initial_state.Doubles(),
               d_final = call.d_final_state.Doubles();
    const int n = call.shape.head_size;
    const int64_t stride = int64_t{call.shape.heads} * n;
    for (int64_t unit = 0; unit < int64_t{call.shape.batch} * call.shape.heads; ++unit) {
      const int64_t at =
          unit / call.shape.heads * call.shape.tokens * stride + unit % call.shape.heads * n;
      const int64_t state_at = unit * n * n;
      const Wkv7ReferenceHead<double> head = {
          .head_size = n,
          .tokens = call.shape.tokens,
          .stride = stride,
          .r = r.data() + at,
          .w_raw = w_raw.data() + at,
          .k = k.data() + at,
          .v = v.data() + at,
          .a = a.data() + at,
          .b = b.data() + at,
          .initial_state = call.from_state ? initial.data() + state_at : nullptr};
      std::vector<double> states;
      Wkv7ReferenceForward(head, &states, y.data() + at);
      std::copy(states.end() - n * n, states.end(), final_state.begin() + state_at);
      Wkv7ReferenceBackward<double>(head, states, dy.data() + at,
                                    call.from_state ? d_final.data() + state_at : nullptr,
                                    {.r = dr.data() + at,
                                     .w_raw = dw_raw.data() + at,
                                     .k = dk.data() + at,
                                     .v = dv.data() + at,
                                     .a = da.data() + at,
                                     .b = db.data() + at,
                                     .initial_state = d_initial_state.data() + state_at});
    }
  }
};

// The largest error of an array, as a share of the array's largest element.
double Error(const Misaligned& found, const std::vector<double>& expected) {
  double largest = 0.0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  double error = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(found[i] - expected[i]);
    if (!(difference <= error)) error = difference;
  }
  return error / largest;
}

void ExpectNear(const Call& call, const Expected& expected, double tolerance) {
  EXPECT_LT(Error(call.y, expected.y), tolerance);
  EXPECT_LT(Error(call.final_state, expected.final_state), tolerance);
  EXPECT_LT(Error(call.dr, expected.dr), tolerance);
  EXPECT_LT(Error(call.dw_raw, expected.dw_raw), tolerance);
  EXPECT_LT(Error(call.dk, expected.dk), tolerance);
  EXPECT_LT(Error(call.dv, expected.dv), tolerance);
  EXPECT_LT(Error(call.da, expected.da), tolerance);
  EXPECT_LT(Error(call.db, expected.db), tolerance);
  if (call.from_state) {
    EXPECT_LT(Error(call.d_initial_state, expected.d_initial_state), tolerance);
  }
}

class Wkv7GradientTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, Wkv7GradientTest, ::testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(Wkv7GradientTest, MatchesTheReferenceInDouble) {
  ThreadPool pool(2);
  uint32_t seed = 100;
  for (const int head_size : {16, 32, 48, 64, 128}) {
    for (const int tokens : {1, 2, 15, 16, 17, 33}) {
      Call call({.batch = 2, .tokens = tokens, .heads = 3, .head_size = head_size}, seed++);
      call.from_state = seed % 3 != 0;
      SCOPED_TRACE(::testing::Message() << "N " << head_size << ", T " << tokens);
      call.Run(pool);
      ExpectNear(call, Expected(call), 3e-6);
    }
  }
}

TEST_P(Wkv7GradientTest, TheNumberOfThreadsChangesNothing) {
  const Wkv7TrainingShape shape = {.batch = 3, .tokens = 37, .heads = 2, .head_size = 64};
  Call one(shape, 7);
  Call four(shape, 7);
  ThreadPool single(1), several(4);
  one.Run(single);
  four.Run(several);
  EXPECT_TRUE(SameBits(one.y.data(), four.y.data(), one.rows));
  EXPECT_TRUE(SameBits(one.dw_raw.data(), four.dw_raw.data(), one.rows));
  EXPECT_TRUE(SameBits(one.dv.data(), four.dv.data(), one.rows));
  EXPECT_TRUE(SameBits(one.da.data(), four.da.data(), one.rows));
  EXPECT_TRUE(SameBits(one.d_initial_state.data(), four.d_initial_state.data(), one.states));
}

TEST_P(Wkv7GradientTest, TwoHalvesGiveWhatTheWholeGives) {
  ThreadPool pool(2);
  // The first half's final state begins the second, and its gradient comes back the same way.
  const Wkv7TrainingShape whole_shape = {.batch = 1, .tokens = 40, .heads = 2, .head_size = 32};
  const Wkv7TrainingShape half_shape = {.batch = 1, .tokens = 20, .heads = 2, .head_size = 32};
  Call whole(whole_shape, 21);
  whole.Run(pool);
  Call first(half_shape, 21), second(half_shape, 21);
  for (Call* half : {&first, &second}) {
    const size_t from = half == &second ? half->rows : 0;
    for (auto [to, source] : {std::pair{&half->r, &whole.r},
                              {&half->w_raw, &whole.w_raw},
                              {&half->k, &whole.k},
                              {&half->v, &whole.v},
                              {&half->a, &whole.a},
                              {&half->b, &whole.b},
                              {&half->dy, &whole.dy}}) {
      for (size_t i = 0; i < half->rows; ++i) (*to)[i] = (*source)[from + i];
    }
  }
  for (size_t i = 0; i < whole.states; ++i) {
    first.initial_state[i] = whole.initial_state[i];
    second.d_final_state[i] = whole.d_final_state[i];
  }
  first.Run(pool);
  for (size_t i = 0; i < whole.states; ++i) second.initial_state[i] = first.final_state[i];
  second.Run(pool);
  for (size_t i = 0; i < whole.states; ++i) first.d_final_state[i] = second.d_initial_state[i];
  first.Run(pool);
  EXPECT_LT(Error(second.final_state, whole.final_state.Doubles()), 1e-6);
  EXPECT_LT(Error(first.d_initial_state, whole.d_initial_state.Doubles()), 1e-6);
  Misaligned dk(whole.rows);
  for (size_t i = 0; i < first.rows; ++i) {
    dk[i] = first.dk[i];
    dk[first.rows + i] = second.dk[i];
  }
  EXPECT_LT(Error(dk, whole.dk.Doubles()), 1e-6);
}

TEST_P(Wkv7GradientTest, MatchesTheOfficialOperatorAndItsGradients) {
  const testing::Golden golden(std::string(DREAMSTATE_TEST_DATA) + "/golden/wkv7_op");
  ThreadPool pool(2);
  Call call({.batch = 2, .tokens = 32, .heads = 2, .head_size = 64}, 1);
  const auto fill = [&golden](Misaligned& array, const std::string& name) {
    const std::vector<double> values = golden.Values<double>(name);
    ASSERT_EQ(values.size(), array.size());
    for (size_t i = 0; i < values.size(); ++i) array[i] = static_cast<float>(values[i]);
  };
  fill(call.r, "r");
  fill(call.w_raw, "wraw");
  fill(call.k, "k");
  fill(call.v, "v");
  fill(call.a, "a");
  fill(call.b, "b");
  fill(call.dy, "dy");
  fill(call.initial_state, "S0");
  fill(call.d_final_state, "dST");
  for (const bool from_state : {false, true}) {
    const std::string variant = from_state ? "S0" : "zero";
    call.from_state = from_state;
    call.Run(pool);
    double largest = 0.0;
    const auto compare = [&](const Misaligned& found, const std::string& name) {
      const double error = Error(found, golden.Values<double>(name));
      EXPECT_LT(error, 3e-6) << name;
      largest = std::max(largest, error);
    };
    compare(call.y, "y_" + variant);
    compare(call.dr, "grad_" + variant + "_r");
    compare(call.dw_raw, "grad_" + variant + "_wraw");
    compare(call.dk, "grad_" + variant + "_k");
    compare(call.dv, "grad_" + variant + "_v");
    compare(call.da, "grad_" + variant + "_a");
    compare(call.db, "grad_" + variant + "_b");
    if (from_state) {
      compare(call.final_state, "ST_S0");
      compare(call.d_initial_state, "grad_S0_S0");
    }
    RecordProperty("largest_error_" + variant, std::to_string(largest));
  }
}

TEST(Wkv7GradientReference, AgreesWithFiniteDifferences) {
  constexpr int kHeadSize = 4;
  constexpr int kTokens = 5;
  constexpr size_t kRows = kTokens * kHeadSize;
  constexpr size_t kState = kHeadSize * kHeadSize;
  std::mt19937 generator(5);
  std::normal_distribution<double> normal;
  // r, w_raw, k, v, a, b and the initial state, one after the other.
  std::vector<double> inputs(6 * kRows + kState);
  for (double& value : inputs) value = normal(generator) * 0.7;
  std::vector<double> dy(kRows), d_final(kState);
  for (double& value : dy) value = normal(generator);
  for (double& value : d_final) value = normal(generator);
  const auto head = [&](const std::vector<double>& x) {
    const double* p = x.data();
    return Wkv7ReferenceHead<double>{kHeadSize,     kTokens,       kHeadSize,     p,
                                     p + kRows,     p + 2 * kRows, p + 3 * kRows, p + 4 * kRows,
                                     p + 5 * kRows, p + 6 * kRows};
  };
  std::vector<double> states, y(kRows);
  const auto loss = [&](const std::vector<double>& x) {
    Wkv7ReferenceForward(head(x), &states, y.data());
    double sum = 0.0;
    for (size_t i = 0; i < kRows; ++i) sum += y[i] * dy[i];
    for (size_t i = 0; i < kState; ++i) sum += states[kTokens * kState + i] * d_final[i];
    return sum;
  };
  loss(inputs);
  std::vector<double> gradients(inputs.size());
  double* g = gradients.data();
  Wkv7ReferenceBackward<double>(
      head(inputs), states, dy.data(), d_final.data(),
      {g, g + kRows, g + 2 * kRows, g + 3 * kRows, g + 4 * kRows, g + 5 * kRows, g + 6 * kRows});
  for (size_t i = 0; i < inputs.size(); ++i) {
    constexpr double kStep = 1e-5;
    std::vector<double> moved = inputs;
    moved[i] = inputs[i] + kStep;
    const double above = loss(moved);
    moved[i] = inputs[i] - kStep;
    const double below = loss(moved);
    EXPECT_NEAR(gradients[i], (above - below) / (2 * kStep), 1e-7) << "input " << i;
  }
}

}  // namespace
}  // namespace dreamstate::kernels
