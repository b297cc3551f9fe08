#include "core/diffusion/state_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

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
  const std::vector<StateCondition> conditions = {
      {.label = 0, .text = {}},
      {.label = -1, .text = std::vector<float>(10, 0.5f)},
      {.label = 2, .text = {}}};
  const GenerateOptions options = {.steps = 4, .seed = 11};
  const auto three = generator->Generate(conditions, options).value();
  ASSERT_EQ(three.size(), 3u);
  for (const state::State& state : three) EXPECT_TRUE(state.Validate().ok());
  EXPECT_EQ(generator->Generate(conditions, options).value(), three);
  GenerateOptions last = options;
  last.first_sample = 2;
  const auto alone = generator->Generate(std::span(conditions).last(1), last).value();
  for (size_t i = 0; i < alone[0].wkv.size(); ++i) {
    EXPECT_NEAR(alone[0].wkv[i], three[2].wkv[i], 1e-4) << i;
  }
  GenerateOptions other = options;
  other.seed = 12;
  EXPECT_NE(generator->Generate(conditions, other).value(), three);
}

TEST_F(StateGeneratorTest, BadRequestsAreNamed) {
  const auto generator = Load().value();
  const auto message = [&](const StateCondition& condition, const GenerateOptions& options) {
    return std::string(generator->Generate(std::span(&condition, 1), options).status().message());
  };
  EXPECT_THAT(message({.label = 3, .text = {}}, {}), HasSubstr("conditions[0].label"));
  EXPECT_THAT(message({.label = 0, .text = {1, 2, 3}}, {}), HasSubstr("conditions[0].text"));
  EXPECT_THAT(message({}, {.steps = 0}), HasSubstr("steps"));
  EXPECT_THAT(message({}, {.steps = 100'000}), HasSubstr("steps"));
  EXPECT_TRUE(generator->Generate({}, {}).value().empty());
  const StateCondition none;
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
