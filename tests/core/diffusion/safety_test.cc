#include "core/diffusion/safety.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/diffusion/made_states.h"

namespace dreamstate::diffusion {
namespace {

using ::testing::HasSubstr;

constexpr size_t kStates = 500;

std::vector<double> Energies() {
  std::vector<double> energy;
  for (size_t i = 0; i < kStates; ++i) energy.push_back(1 + 0.2 * std::sin(double(i)));
  return energy;
}

class SafetyGateTest : public ::testing::Test {
 protected:
  SafetyGateTest() : states_(MakeStates(kStates, 3)) {}
  SafetyGate Fit() const { return SafetyGate::Fit(kShape, states_.wkv, Energies()).value(); }
  state::State State(size_t i, float factor = 1) const {
    state::State state = state::State::Empty(kShape);
    for (size_t k = 0; k < state.wkv.size(); ++k) {
      state.wkv[k] = factor * states_.wkv[i * state.wkv.size() + k];
    }
    return state;
  }
  const MadeStates states_;
};

TEST_F(SafetyGateTest, RealStatesPassBlurredAndBlownUpOnesDoNot) {
  const SafetyGate gate = Fit();
  const std::vector<double> energy = Energies();
  size_t passed = 0;
  for (size_t i = 0; i < kStates; ++i) passed += gate.Check(State(i), energy[i]).passed ? 1 : 0;
  // Each of three checks leaves out at most 0.2 %.
  EXPECT_GE(passed, kStates * 994 / 1000);
  for (const float factor : {0.0f, 0.05f, 20.0f}) {
    const SafetyVerdict verdict = gate.Check(State(1, factor), 1);
    EXPECT_FALSE(verdict.passed) << factor;
    ASSERT_EQ(verdict.checks.size(), 3u);
    EXPECT_EQ(verdict.checks[0].name, "norm");
    EXPECT_FALSE(verdict.checks[0].passed);
    EXPECT_GE(verdict.checks[0].layer, 0);
    EXPECT_FALSE(verdict.checks[1].passed);
    EXPECT_TRUE(verdict.checks[2].passed);
  }
}

TEST_F(SafetyGateTest, EnergyCountsOnBothSides) {
  const SafetyGate gate = Fit();
  for (const double energy : {0.0, 0.2, 3.0}) {
    const SafetyVerdict verdict = gate.Check(State(1), energy);
    EXPECT_FALSE(verdict.passed) << energy;
    EXPECT_EQ(verdict.checks[2].name, "energy");
    EXPECT_FALSE(verdict.checks[2].passed);
    EXPECT_EQ(verdict.checks[2].value, energy);
    EXPECT_EQ(verdict.checks[2].layer, -1);
  }
}

TEST_F(SafetyGateTest, TheWorstMatrixIsNamed) {
  const SafetyGate gate = Fit();
  state::State state = State(2);
  const size_t head = 3, size = 64;  // layer 1, head 1
  for (size_t k = head * size; k < (head + 1) * size; ++k) state.wkv[k] *= 30;
  const SafetyVerdict verdict = gate.Check(state, 1);
  EXPECT_EQ(verdict.checks[0].layer, 1);
  EXPECT_EQ(verdict.checks[0].head, 1);
  EXPECT_GT(verdict.checks[0].value, verdict.checks[0].most);
}

TEST_F(SafetyGateTest, TensorsGiveTheSameGateAndBadOnesAreNamed) {
  const SafetyGate gate = Fit();
  const auto set = [](std::vector<tensors::Tensor> list) {
    return tensors::TensorSet::Make("dit.safetensors", std::move(list), {}, nullptr).value();
  };
  const SafetyGate loaded = SafetyGate::Load(set(gate.ToTensors()), kShape).value();
  EXPECT_EQ(loaded.Check(State(4), 1).checks[0].most, gate.Check(State(4), 1).checks[0].most);

  std::vector<tensors::Tensor> wrong = gate.ToTensors();
  const float descending[] = {2, 1};
  wrong[2].data = std::as_bytes(std::span(descending));
  EXPECT_THAT(std::string(SafetyGate::Load(set(wrong), kShape).status().message()),
              HasSubstr("safety.energy: expected ranges"));
  wrong.pop_back();
  EXPECT_THAT(std::string(SafetyGate::Load(set(wrong), kShape).status().message()),
              HasSubstr("safety.energy"));
}

TEST_F(SafetyGateTest, FewOrSilentStatesAreRefused) {
  EXPECT_THAT(std::string(SafetyGate::Fit(kShape, {}, {}).status().message()),
              HasSubstr("at least 20"));
  std::vector<float> silent(states_.wkv.size());
  EXPECT_THAT(std::string(SafetyGate::Fit(kShape, silent, Energies()).status().message()),
              HasSubstr("state 0"));
}

}  // namespace
}  // namespace dreamstate::diffusion
