#include "core/diffusion/state_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/diffusion/dit.h"
#include "tests/core/diffusion/made_states.h"

namespace dreamstate::diffusion {
namespace {

using ::testing::HasSubstr;

class StateGeneratorTest : public ::testing::Test {
 protected:
  StateGeneratorTest() {
    const MadeStates states = MakeStates(30, 1);
    codec_ =
        std::make_unique<StateCodec>(StateCodec::Fit(kShape, states.wkv, states.shift).value());
    Dit dit({.state_heads = 4,
             .blocks = 4,
             .token_size = 16,
             .width = 32,
             .layers = 2,
             .head_size = 16,
             .mlp = 32,
             .registers = 1,
             .labels = 3,
             .activation_width = 5,
             .text_tokens = 2},
            torch::kCPU);
    dit.Initialise(1);
    const torch::NoGradGuard no_gradients;
    torch::manual_seed(2);
    dit.values().add_(torch::randn_like(dit.values()) * 0.1);
    tensors_ = dit.Export(dit.values(), &bytes_);
    for (tensors::Tensor& tensor : codec_->ToTensors()) tensors_.push_back(tensor);
  }
  absl::StatusOr<std::unique_ptr<StateGenerator>> Load() const {
    return StateGenerator::Load(tensors::TensorSet::Make("dit", tensors_, {}, nullptr).value(),
                                /*bf16=*/false);
  }

  std::unique_ptr<StateCodec> codec_;
  std::vector<std::string> bytes_;
  std::vector<tensors::Tensor> tensors_;
};

TEST_F(StateGeneratorTest, SameSeedSameStatesWhateverIsMadeWithThem) {
  const auto generator = Load().value();
  const std::vector<StateRequest> requests = {
      {.conditions = {{.label = 0, .text = {}}}},
      {.conditions = {{.text = std::vector<float>(10, 0.5f)},
                      {.label = 1, .text = {}, .weight = -0.5f}}},
      {}};
  const GenerateOptions options = {.steps = 4, .seed = 11};
  const auto three = generator->Generate(requests, options).value();
  ASSERT_EQ(three.size(), 3u);
  for (const state::State& state : three) EXPECT_TRUE(state.Validate().ok());
  EXPECT_EQ(generator->Generate(requests, options).value(), three);
  for (int64_t i = 0; i < 3; ++i) {
    GenerateOptions one = options;
    one.first_sample = i;
    const auto alone =
        generator->Generate(std::span(requests).subspan(static_cast<size_t>(i), 1), one).value();
    for (size_t k = 0; k < alone[0].wkv.size(); ++k) {
      EXPECT_NEAR(alone[0].wkv[k], three[static_cast<size_t>(i)].wkv[k], 1e-4) << i << " " << k;
    }
  }
  GenerateOptions other = options;
  other.seed = 12;
  EXPECT_NE(generator->Generate(requests, other).value(), three);
}

TEST_F(StateGeneratorTest, KeptHeadsStayAndOthersAreMade) {
  const auto generator = Load().value();
  state::State from = state::State::Empty(kShape);
  from.wkv = MakeStates(1, 5).wkv;
  const StateRequest request = {.from = &from, .keep = {true, false, false, true}};
  const state::State made = generator->Generate(std::span(&request, 1), {.steps = 3}).value()[0];
  const auto head = [](const state::State& state, size_t which) {
    const auto begin = state.wkv.begin() + static_cast<ptrdiff_t>(which * 64);
    return std::vector<float>(begin, begin + 64);
  };
  for (size_t which = 0; which < 4; ++which) {
    EXPECT_EQ(head(made, which) == head(from, which), request.keep[which]) << which;
  }
}

TEST_F(StateGeneratorTest, BadRequestsAreNamed) {
  const auto generator = Load().value();
  const auto message = [&](const StateRequest& request, const GenerateOptions& options = {}) {
    return std::string(generator->Generate(std::span(&request, 1), options).status().message());
  };
  const auto told = [&](StateCondition condition) {
    return message({.conditions = {std::move(condition)}});
  };
  EXPECT_THAT(told({.label = 3, .text = {}}), HasSubstr("requests[0].conditions[0].label"));
  EXPECT_THAT(told({.label = 0, .text = {1, 2, 3}}), HasSubstr("conditions[0].text"));
  EXPECT_THAT(told({.label = 0, .text = {}, .weight = 0}), HasSubstr("conditions[0].weight"));
  EXPECT_THAT(told({.label = 0, .text = {}, .weight = NAN}), HasSubstr("conditions[0].weight"));
  state::State from = state::State::Empty(kShape);
  EXPECT_THAT(message({.from = &from, .noise = 0}), HasSubstr("requests[0].noise"));
  EXPECT_THAT(message({.from = &from, .noise = NAN}), HasSubstr("requests[0].noise"));
  EXPECT_THAT(message({.from = nullptr, .noise = 0.5}), HasSubstr("requests[0].from"));
  EXPECT_THAT(message({.from = &from, .keep = {true}}), HasSubstr("requests[0].keep"));
  EXPECT_THAT(message({.from = &from, .noise = 0.5, .keep = {true, true, true, true}}),
              HasSubstr("requests[0].noise"));
  from.wkv[3] = NAN;
  EXPECT_THAT(message({.from = &from, .noise = 0.5}), HasSubstr("requests[0].from"));
  const state::State other =
      state::State::Empty({.layers = 1, .width = 8, .heads = 1, .head_size = 8});
  EXPECT_THAT(message({.from = &other, .noise = 0.5}), HasSubstr("requests[0].from"));
  EXPECT_THAT(message({}, {.steps = 0}), HasSubstr("steps"));
  EXPECT_THAT(message({}, {.steps = 100'000}), HasSubstr("steps"));
  EXPECT_TRUE(generator->Generate({}, {}).value().empty());
  const StateRequest none;
  EXPECT_TRUE(absl::IsCancelled(
      generator->Generate(std::span(&none, 1), {.on_step = [](int, int) { return false; }})
          .status()));
}

TEST_F(StateGeneratorTest, ACodecThatIsNotTheDitsIsRefused) {
  const MadeStates states = MakeStates(30, 1);
  const StateCodec smaller = StateCodec::Fit(kShape, states.wkv, states.shift, 2).value();
  std::erase_if(tensors_, [](const tensors::Tensor& t) { return t.name.starts_with("codec."); });
  for (tensors::Tensor& tensor : smaller.ToTensors()) tensors_.push_back(tensor);
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("as the codec has"));
}

}  // namespace
}  // namespace dreamstate::diffusion
