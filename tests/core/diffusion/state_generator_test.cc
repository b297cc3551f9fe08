#include "core/diffusion/state_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/diffusion/dit.h"
#include "core/state/geometry.h"
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

TEST_F(StateGeneratorTest, TunedStatesNeedAStateDitThatLearnedThem) {
  const StateRequest request = {.conditions = {{.label = 1, .text = {}}}};
  const auto untuned =
      Load().value()->Generate(std::span(&request, 1), {.mode = GenerateMode::kTuned});
  EXPECT_EQ(untuned.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(untuned.status().message()), HasSubstr("mode"));
  // Its vector is all that a tuned state differs by: of zeros, it is the mean one.
  std::vector<float> tuned(32, 0.0f);
  tensors_.push_back({.name = "dit.tuned",
                      .dtype = tensors::DType::kF32,
                      .shape = {32},
                      .data = std::as_bytes(std::span(tuned))});
  const auto made = [&](GenerateMode mode) {
    return Load().value()->Generate(std::span(&request, 1), {.mode = mode}).value()[0].wkv;
  };
  EXPECT_EQ(made(GenerateMode::kTuned), made(GenerateMode::kMean));
  std::fill(tuned.begin(), tuned.end(), 1.0f);
  EXPECT_NE(made(GenerateMode::kTuned), made(GenerateMode::kMean));
}

TEST_F(StateGeneratorTest, SameSeedSameStatesWhateverIsMadeWithThem) {
  const auto generator = Load().value();
  std::vector<StateRequest> requests = {{.conditions = {{.label = 0, .text = {}}}},
                                        {.conditions = {{.text = std::vector<float>(10, 0.5f)},
                                                        {.label = 1, .text = {}, .weight = -0.5f}}},
                                        {}};
  for (int64_t i = 0; i < 3; ++i) {
    requests[static_cast<size_t>(i)].seed = 11;
    requests[static_cast<size_t>(i)].sample = i;
  }
  const GenerateOptions options = {.steps = 4};
  const auto three = generator->Generate(requests, options).value();
  ASSERT_EQ(three.size(), 3u);
  for (const state::State& state : three) EXPECT_TRUE(state.Validate().ok());
  EXPECT_EQ(generator->Generate(requests, options).value(), three);
  for (size_t i = 0; i < 3; ++i) {
    const auto alone = generator->Generate(std::span(requests).subspan(i, 1), options).value();
    for (size_t k = 0; k < alone[0].wkv.size(); ++k) {
      EXPECT_NEAR(alone[0].wkv[k], three[i].wkv[k], 1e-4) << i << " " << k;
    }
  }
  requests[0].seed = 12;
  EXPECT_NE(generator->Generate(requests, options).value()[0], three[0]);
}

TEST_F(StateGeneratorTest, TranslationToTheSameDescriptionChangesNothingAndKeepsShifts) {
  const auto generator = Load().value();
  state::State state = state::State::Empty(kShape);
  state.wkv = MakeStates(1, 5).wkv;
  state.shift[3] = 0.25f;
  const std::vector<StateCondition> zero = {{.label = 0, .text = {}}};
  const std::vector<StateCondition> one = {{.label = 1, .text = {}}};
  const auto same =
      generator->Translate({.state = &state, .from = zero, .to = zero, .seed = 3}, {}).value();
  // But for the gauge, which the codec removes.
  std::vector<float> code(static_cast<size_t>(codec_->code_elements()));
  codec_->Encode(state.wkv, code);
  const state::State round_trip = codec_->DecodeState(code);
  for (size_t i = 0; i < same.wkv.size(); ++i) {
    ASSERT_NEAR(same.wkv[i], round_trip.wkv[i], 1e-4) << i;
  }
  EXPECT_EQ(same.shift, state.shift);
  const auto other =
      generator->Translate({.state = &state, .from = zero, .to = one, .seed = 3}, {}).value();
  EXPECT_GT(state::Compare(other, same).total.relative_distance, 1e-3);
  EXPECT_EQ(generator->Translate({.state = &state, .from = zero, .to = one, .seed = 3}, {}).value(),
            other);
}

TEST_F(StateGeneratorTest, APathAlongTheFlowIsDeterministicAndItsShiftsAreInBetween) {
  const auto generator = Load().value();
  const MadeStates made = MakeStates(2, 6);
  state::State first = state::State::Empty(kShape), second = first;
  const auto half = static_cast<ptrdiff_t>(first.wkv.size());
  first.wkv.assign(made.wkv.begin(), made.wkv.begin() + half);
  second.wkv.assign(made.wkv.begin() + half, made.wkv.end());
  first.shift[0] = 1;
  const double fractions[] = {0, 0.5, 1};
  const auto path = generator->AlongFlow(first, second, fractions, {.steps = 3}).value();
  ASSERT_EQ(path.size(), 3u);
  EXPECT_EQ(generator->AlongFlow(first, second, fractions, {.steps = 3}).value(), path);
  EXPECT_NE(path[0].wkv, path[2].wkv);
  EXPECT_FLOAT_EQ(path[1].shift[0], 0.5f);
  const double outside[] = {1.5};
  EXPECT_THAT(std::string(generator->AlongFlow(first, second, outside, {}).status().message()),
              HasSubstr("fractions[0]"));
}

TEST_F(StateGeneratorTest, EnergyIsTheStatesOwnWhateverElseIsAsked) {
  const auto generator = Load().value();
  const MadeStates made = MakeStates(2, 7);
  state::State first = state::State::Empty(kShape), far = first;
  first.wkv.assign(made.wkv.begin(), made.wkv.begin() + static_cast<ptrdiff_t>(first.wkv.size()));
  for (size_t i = 0; i < far.wkv.size(); ++i) far.wkv[i] = 5 * first.wkv[i];
  const state::State* both[] = {&far, &first};
  const auto energies = generator->Energy(both).value();
  ASSERT_EQ(energies.size(), 2u);
  EXPECT_GT(energies[0], energies[1]);
  const state::State* one[] = {&first};
  EXPECT_EQ(generator->Energy(one).value()[0], energies[1]);
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
