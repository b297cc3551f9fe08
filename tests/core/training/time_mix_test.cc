// The fused operators against the same in plain torch operations in double precision, and their
// gradients, on every instruction set.
#include "core/training/time_mix.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/kernels/isa_test.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;

// The results, and the gradients of all leaves for random gradients of the results.
Tensors GradientsOf(const Tensors& leaves, Tensors results) {
  torch::manual_seed(5);
  Tensor loss = torch::zeros({}, torch::kDouble);
  for (const Tensor& result : results) {
    loss = loss + (result.to(torch::kDouble) * torch::randn(result.sizes(), torch::kDouble)).sum();
  }
  loss.backward();
  for (const Tensor& leaf : leaves) {
    if (leaf.defined()) results.push_back(leaf.grad());
  }
  return results;
}

// The same of what `body` gives for these inputs. Undefined ones stay undefined.
Tensors ResultsAndGradients(const Tensors& inputs, torch::ScalarType type,
                            const std::function<Tensors(const Tensors&)>& body) {
  Tensors leaves;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.to(type).detach().clone().requires_grad_(true)
                                     : Tensor());
  }
  return GradientsOf(leaves, body(leaves));
}

class TimeMixTest : public kernels::IsaTest {
 protected:
  void ExpectClose(const Tensors& inputs, double tolerance,
                   const std::function<Tensors(const Tensors&)>& body) {
    const Tensors expected = ResultsAndGradients(inputs, torch::kDouble, body);
    const Tensors found = ResultsAndGradients(inputs, torch::kFloat, body);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_TRUE(found[i].defined()) << "array " << i;
      const double scale = expected[i].abs().max().item<double>();
      const double error = (found[i].to(torch::kDouble) - expected[i]).abs().max().item<double>();
      EXPECT_LT(error, tolerance * scale) << "array " << i << " of " << found.size();
    }
  }
  Tensor Random(std::vector<int64_t> shape, double scale = 1.0) {
    return torch::randn(shape, torch::kDouble) * scale;
  }

  kernels::ThreadPool pool_{3};
};
INSTANTIATE_TEST_SUITE_P(EveryIsa, TimeMixTest, ::testing::ValuesIn(kernels::AvailableIsas()),
                         kernels::IsaTestName);

TEST_P(TimeMixTest, NormShiftMix) {
  torch::manual_seed(1);
  for (const int64_t mixes : {1, 6}) {
    for (const bool starts : {false, true}) {
      SCOPED_TRACE(::testing::Message() << mixes << " mixtures, starts " << starts);
      ExpectClose({Random({3, 7, 48}), Random({48}), Random({48}), Random({mixes, 48}),
                   starts ? Random({3, 48}) : Tensor()},
                  2e-6, [&](const Tensors& in) {
                    const NormShiftMixResult result =
                        NormShiftMix(in[0], in[1], in[2], in[4], in[3], in[0].scalar_type(), pool_);
                    Tensors all = result.mixed;
                    all.push_back(result.last);
                    all.push_back(result.residual);
                    return all;
                  });
    }
  }
}

TEST_P(TimeMixTest, Wkv7Prepare) {
  torch::manual_seed(2);
  for (const bool first : {true, false}) {
    SCOPED_TRACE(::testing::Message() << "layer 0: " << first);
    const auto rows = [&] { return Random({2, 9, 64}); };
    ExpectClose({rows(), rows(), rows(), rows(), rows(), Random({1, 1, 64}), Random({1, 1, 64}),
                 Random({1, 1, 64}), Random({1, 1, 64}), first ? Tensor() : rows(),
                 first ? Tensor() : Random({2, 9, 2, 32}), first ? Tensor() : Random({1, 1, 64})},
                5e-6, [&](const Tensors& in) {
                  const Wkv7Inputs out =
                      Wkv7Prepare({in[0], in[1], in[2], in[3], in[4], in[9], in[10]},
                                  {in[5], in[6], in[7], in[8], in[11]}, /*heads=*/2, pool_);
                  return Tensors{out.r, out.w_raw,    out.k,        out.v,       out.a,
                                 out.b, out.finish_r, out.finish_k, out.finish_v};
                });
  }
}

TEST_P(TimeMixTest, Wkv7Finish) {
  torch::manual_seed(3);
  const auto rows = [&] { return Random({2, 9, 4, 16}); };
  ExpectClose({rows(), rows(), rows(), rows(), Random({2, 9, 64}), Random({4, 16}), Random({64}),
               Random({64})},
              5e-6, [&](const Tensors& in) {
                Wkv7Inputs inputs;
                inputs.finish_r = in[1];
                inputs.finish_k = in[2];
                inputs.finish_v = in[3];
                return Tensors{Wkv7Finish(in[0], inputs, in[4], in[5], in[6], in[7], pool_)};
              });
}

TEST_P(TimeMixTest, SquaredRelu) {
  ExpectClose({Random({5, 32})}, 1e-6,
              [&](const Tensors& in) { return Tensors{SquaredRelu(in[0], pool_)}; });
  ExpectClose({Random({5, 7})}, 1e-6,
              [&](const Tensors& in) { return Tensors{SquaredRelu(in[0], pool_)}; });
}

// bf16 is rounded where it is stored, and nowhere else: what the operators give for bf16 inputs is
// within a rounding or two of what double precision gives for the same numbers.
class TimeMixBf16Test : public TimeMixTest {
 protected:
  // The first `products` inputs are those of matrix products.
  void ExpectRounded(Tensors inputs, int products,
                     const std::function<Tensors(const Tensors&)>& body) {
    Tensors mixed = inputs;
    for (int i = 0; i < products; ++i) {
      mixed[i] = inputs[i].to(torch::kBFloat16);
      inputs[i] = mixed[i].to(torch::kDouble);
    }
    const Tensors expected = ResultsAndGradients(inputs, torch::kDouble, body);
    const Tensors found = ResultsAndGradientsOf(mixed, products, body);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      const double scale = expected[i].abs().max().item<double>();
      const double error = (found[i].to(torch::kDouble) - expected[i]).abs().max().item<double>();
      EXPECT_LT(error, scale / 128) << "array " << i << " of " << found.size();
    }
  }

 private:
  static Tensors ResultsAndGradientsOf(const Tensors& inputs, int products,
                                       const std::function<Tensors(const Tensors&)>& body) {
    Tensors leaves;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto type = static_cast<int>(i) < products ? torch::kBFloat16 : torch::kFloat;
      leaves.push_back(inputs[i].to(type).detach().clone().requires_grad_(true));
    }
    return GradientsOf(leaves, body(leaves));
  }
};
INSTANTIATE_TEST_SUITE_P(EveryIsa, TimeMixBf16Test, ::testing::ValuesIn(kernels::AvailableIsas()),
                         kernels::IsaTestName);

TEST_P(TimeMixBf16Test, NormShiftMix) {
  torch::manual_seed(4);
  ExpectRounded({Random({2, 5, 32}), Random({32}), Random({32}), Random({6, 32})}, 0,
                [&](const Tensors& in) {
                  const bool exact = in[0].scalar_type() == torch::kDouble;
                  return NormShiftMix(in[0], in[1], in[2], {}, in[3],
                                      exact ? torch::kDouble : torch::kBFloat16, pool_)
                      .mixed;
                });
}

TEST_P(TimeMixBf16Test, Wkv7PrepareAndFinish) {
  torch::manual_seed(7);
  const auto rows = [&] { return Random({2, 9, 64}); };
  const auto vector = [&] { return Random({1, 1, 64}); };
  ExpectRounded({rows(), rows(), rows(), rows(), rows(), rows(), Random({2, 9, 2, 32}), vector(),
                 vector(), vector(), vector(), vector()},
                6, [&](const Tensors& in) {
                  const Wkv7Inputs out =
                      Wkv7Prepare({in[0], in[1], in[2], in[3], in[4], in[5], in[6]},
                                  {in[7], in[8], in[9], in[10], in[11]}, /*heads=*/2, pool_);
                  return Tensors{out.r, out.w_raw,    out.k,        out.v,       out.a,
                                 out.b, out.finish_r, out.finish_k, out.finish_v};
                });
  const auto heads = [&] { return Random({2, 9, 4, 16}); };
  ExpectRounded(
      {rows(), heads(), heads(), heads(), heads(), Random({4, 16}), Random({64}), Random({64})}, 1,
      [&](const Tensors& in) {
        Wkv7Inputs inputs;
        inputs.finish_r = in[2];
        inputs.finish_k = in[3];
        inputs.finish_v = in[4];
        return Tensors{Wkv7Finish(in[1], inputs, in[0], in[5], in[6], in[7], pool_)};
      });
}

TEST_P(TimeMixBf16Test, SquaredRelu) {
  torch::manual_seed(8);
  ExpectRounded({Random({6, 64})}, 1,
                [&](const Tensors& in) { return Tensors{SquaredRelu(in[0], pool_)}; });
}

// Nothing depends on how many threads there are.
TEST_P(TimeMixTest, AnyNumberOfThreadsGivesTheSameBits) {
  torch::manual_seed(6);
  const Tensors inputs = {Random({3, 37, 48}), Random({48}), Random({48}), Random({6, 48})};
  Tensors first;
  for (const int threads : {1, 2, 5}) {
    kernels::ThreadPool pool(threads);
    const Tensors all = ResultsAndGradients(inputs, torch::kFloat, [&](const Tensors& in) {
      const NormShiftMixResult result =
          NormShiftMix(in[0], in[1], in[2], {}, in[3], torch::kFloat, pool);
      return result.mixed;
    });
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(torch::equal(all[i], first[i])) << i;
  }
}

}  // namespace
}  // namespace dreamstate::training
