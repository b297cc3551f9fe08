// The backbone's learner as the run loop sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/rwkv/engine.h"
#include "core/training/learner_options.h"
#include "kernels/runtime/thread_pool.h"
#include "tests/core/training/golden_backbone.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::training {
namespace {

using dreamstate::testing::TemporaryDirectory;
using ::testing::HasSubstr;

LearnerOptions Small() {
  LearnerOptions options;
  options.sizes = {.vocab = 32, .layers = 2, .width = 64, .head_size = 32};
  options.bf16 = false;
  options.threads = 2;
  options.bank_slots = 4;
  options.seed = 7;
  return options;
}

// Rows that count upwards, each from its own start: soon learnt.
Batch Counting(int rows, int tokens, int step) {
  Batch batch = {.rows = rows, .tokens = tokens};
  for (int row = 0; row < rows; ++row) {
    for (int t = 0; t < tokens; ++t) {
      batch.inputs.push_back((row * 5 + step * 3 + t) % 32);
      batch.targets.push_back((row * 5 + step * 3 + t + 1) % 32);
    }
    batch.row.push_back({.start_slots = {}, .keep_slot = -1, .label = row % 2});
  }
  return batch;
}
// Rows that count by ones or by sevens: which, only what was read before tells.
Batch Striding(int rows, int tokens, int step) {
  Batch batch = Counting(rows, tokens, step);
  for (int row = 0; row < rows; ++row) {
    const int stride = row % 2 == 0 ? 1 : 7;
    for (int t = 0; t < tokens; ++t) {
      const size_t at = static_cast<size_t>(row) * tokens + t;
      batch.inputs[at] = (row * 5 + step * 3 + stride * t) % 32;
      batch.targets[at] = (row * 5 + step * 3 + stride * (t + 1)) % 32;
    }
  }
  return batch;
}

// Counting, with states kept and begun from.
Batch WithStates(int step) {
  Batch batch = Counting(4, 24, step);
  batch.row[0].keep_slot = step % 4;
  batch.row[1].keep_slot = (step + 1) % 4;
  if (step > 4) {
    batch.row[2].start_slots = {(step + 2) % 4};
    batch.row[3].start_slots = {0, 1, 2};
  }
  return batch;
}

std::vector<float> Values(Learner& learner) {
  const tensors::TensorSet set = learner.Export(/*fp32=*/true).value();
  std::vector<float> all;
  for (const tensors::Tensor& tensor : set.tensors()) {
    std::vector<float> values(tensor.elements());
    EXPECT_TRUE(tensors::ToFloat(tensor, values).ok());
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

TEST(BackboneLearner, Learns) {
  for (const bool bf16 : {false, true}) {
    LearnerOptions options = Small();
    options.bf16 = bf16;
    const auto learner = MakeBackboneLearner(options).value();
    double first = 0, last = 0;
    for (int step = 0; step < 60; ++step) {
      last = learner->Step(Counting(4, 24, step), 5e-3).value().loss;
      if (step == 0) first = last;
    }
    EXPECT_NEAR(first, std::log(32.0), 0.3);
    EXPECT_LT(last, 0.5);
    const EvaluationResult result = learner->Evaluate(Counting(3, 24, 999)).value();
    EXPECT_EQ(result.scored, 72);
    EXPECT_GT(result.correct, 60);
    EXPECT_EQ(result.row_nll.size(), 3u);
  }
}

TEST(BackboneLearner, AResumedRunRepeatsTheUninterruptedOneToTheBit) {
  TemporaryDirectory directory;
  const auto whole = MakeBackboneLearner(Small()).value();
  std::vector<double> losses;
  for (int step = 0; step < 20; ++step) {
    if (step == 11) {
      ASSERT_TRUE(whole->Save(directory.path()).ok());
    }
    losses.push_back(whole->Step(WithStates(step), 1e-3).value().loss);
  }
  LearnerOptions other = Small();
  other.seed = 8;  // nothing of it may remain
  const auto resumed = MakeBackboneLearner(other).value();
  ASSERT_TRUE(resumed->Restore(directory.path()).ok());
  for (int step = 11; step < 20; ++step) {
    EXPECT_EQ(resumed->Step(WithStates(step), 1e-3).value().loss, losses[step]) << step;
  }
  EXPECT_EQ(Values(*resumed), Values(*whole));
}

TEST(BackboneLearner, MicroBatchesGiveTheSameStep) {
  LearnerOptions options = Small();
  const auto whole = MakeBackboneLearner(options).value();
  options.micro_batch_rows = 1;
  const auto parts = MakeBackboneLearner(options).value();
  for (int step = 0; step < 8; ++step) {
    const Batch batch = WithStates(step);
    const StepResult a = whole->Step(batch, 1e-3).value();
    const StepResult b = parts->Step(batch, 1e-3).value();
    EXPECT_NEAR(a.loss, b.loss, 1e-5);
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-3 * a.grad_norm);
  }
}

TEST(BackboneLearner, KeptStatesAreWhatRowsBeginFrom) {
  // Reading a row in two halves, the second from the kept state of the first, gives the losses of
  // reading it whole.
  const auto learner = MakeBackboneLearner(Small()).value();
  for (int step = 0; step < 80; ++step) {
    ASSERT_TRUE(learner->Step(Striding(4, 24, step), 5e-3).ok());
  }
  Batch whole = Striding(1, 24, 3);
  Batch first = Striding(1, 12, 3);
  Batch second = first;
  for (int t = 0; t < 12; ++t) {
    second.inputs[t] = whole.inputs[12 + t];
    second.targets[t] = whole.targets[12 + t];
  }
  first.row[0].keep_slot = 2;
  ASSERT_TRUE(learner->Step(first, 0).ok());  // keeps, moves nothing
  second.row[0].start_slots = {2};
  const double halves =
      learner->Evaluate(first).value().nll + learner->Evaluate(second).value().nll;
  EXPECT_NEAR(halves, learner->Evaluate(whole).value().nll, 1e-4);
  second.row[0].start_slots = {};
  EXPECT_GT(std::abs(learner->Evaluate(first).value().nll + learner->Evaluate(second).value().nll -
                     learner->Evaluate(whole).value().nll),
            1e-3);
}

TEST(BackboneLearner, UnscoredTargetsDoNotCount) {
  const auto learner = MakeBackboneLearner(Small()).value();
  Batch batch = Counting(2, 16, 0);
  for (int t = 0; t < 16; ++t) batch.targets[t] = -1;  // the first row whole
  const EvaluationResult result = learner->Evaluate(batch).value();
  EXPECT_EQ(result.scored, 16);
  EXPECT_EQ(result.row_scored, (std::vector<int64_t>{0, 16}));
  EXPECT_EQ(result.row_nll[0], 0);
  EXPECT_NEAR(learner->Step(batch, 1e-3).value().loss, result.nll / 16, 1e-5);
}

TEST(BackboneLearner, ALossThatIsNotFiniteMovesNothing) {
  const tensors::TensorSet golden = GoldenWeights();
  LearnerOptions options = Small();
  options.initial = &golden;
  const auto learner = MakeBackboneLearner(options).value();
  // A learning rate that breaks everything, and then the step behind it.
  Batch batch = Counting(2, 16, 0);
  ASSERT_TRUE(learner->Step(batch, 1e30).ok());
  const std::vector<float> broken = Values(*learner);
  const StepResult result = learner->Step(batch, 1e-3).value();
  EXPECT_FALSE(std::isfinite(result.loss) && std::isfinite(result.grad_norm));
  const std::vector<float> after = Values(*learner);
  EXPECT_EQ(std::memcmp(broken.data(), after.data(), broken.size() * sizeof(float)), 0);
}

TEST(BackboneLearner, ExportsWhatTheEngineServes) {
  const tensors::TensorSet golden = GoldenWeights();
  LearnerOptions options = Small();
  options.initial = &golden;
  const auto learner = MakeBackboneLearner(options).value();
  Batch batch = {.rows = 1, .tokens = 40};
  for (int t = 0; t < 40; ++t) {
    batch.inputs.push_back((t * 37) % 256);
    batch.targets.push_back((t * 37 + 37) % 256);
  }
  batch.row.resize(1);
  ASSERT_TRUE(learner->Step(batch, 1e-3).ok());
  const tensors::TensorSet exported = learner->Export(/*fp32=*/true).value();
  kernels::ThreadPool pool(1);
  const auto weights = rwkv::Weights::Load(exported, kernels::WeightFormat::kFloat32).value();
  rwkv::Engine engine(weights, {.max_tokens = 64, .max_sequences = 1, .slots = 1}, pool);
  std::vector<float> nll(40);
  const rwkv::Segment segment = {
      .slot = 0, .tokens = batch.inputs, .targets = batch.targets, .nll = nll.data()};
  engine.slots().Clear(0);
  ASSERT_TRUE(engine.Forward({&segment, 1}).ok());
  double sum = 0;
  for (const float value : nll) sum += value;
  EXPECT_NEAR(learner->Evaluate(batch).value().nll, sum, 2e-3);
  // And in bf16, as it is published.
  EXPECT_EQ(learner->Export(false).value().Find("emb.weight")->dtype, tensors::DType::kBF16);
}

TEST(StateTuning, LearnsOneStateALabelAndNothingElse) {
  LearnerOptions options = Small();
  const auto teacher = MakeBackboneLearner(options).value();
  for (int step = 0; step < 120; ++step) {
    ASSERT_TRUE(teacher->Step(Striding(8, 24, step), 5e-3).ok());
  }
  const tensors::TensorSet backbone = teacher->Export(true).value();
  options.initial = &backbone;
  options.mode = TrainingMode::kStateTuning;
  options.labels = 2;
  options.bank_slots = 0;
  options.optimiser = {.eps = 1e-8, .weight_decay = 0, .clip = 0};
  const auto learner = MakeBackboneLearner(options).value();
  // Label 0 counts by ones, label 1 by sevens: only the state can tell before the second token.
  const Batch batch = Striding(2, 3, 0);
  const double before = learner->Evaluate(batch).value().nll;
  for (int step = 0; step < 100; ++step) ASSERT_TRUE(learner->Step(batch, 0.1).ok());
  EXPECT_LT(learner->Evaluate(batch).value().nll, 0.7 * before);
  const tensors::TensorSet states = learner->Export().value();
  ASSERT_EQ(states.tensors().size(), 2u);
  EXPECT_EQ(states.tensors()[0].name, "blocks.0.att.time_state");
  EXPECT_EQ(states.tensors()[0].shape, (tensors::Shape{2, 2, 32, 32}));
}

TEST(BackboneLearner, WrongBatchesAndOptionsAreNamed) {
  const auto learner = MakeBackboneLearner(Small()).value();
  const auto message = [&](const std::function<void(Batch*)>& change) {
    Batch batch = Counting(2, 16, 0);
    change(&batch);
    return std::string(learner->Step(batch, 1e-3).status().message());
  };
  EXPECT_THAT(message([](Batch* batch) { batch->inputs[3] = 32; }), HasSubstr("found input 32"));
  EXPECT_THAT(message([](Batch* batch) { batch->targets[3] = -2; }), HasSubstr("target -2"));
  EXPECT_THAT(message([](Batch* batch) { batch->inputs.pop_back(); }), HasSubstr("rows x tokens"));
  EXPECT_THAT(message([](Batch* batch) { batch->row[0].start_slots = {4}; }),
              HasSubstr("start slot 4: expected one of 4"));
  EXPECT_THAT(message([](Batch* batch) { batch->row[0].keep_slot = 4; }), HasSubstr("keep slot 4"));
  LearnerOptions options = Small();
  options.device = "tpu";
  EXPECT_THAT(std::string(MakeBackboneLearner(options).status().message()),
              HasSubstr("expected cpu or cuda, found \"tpu\""));
  options = Small();
  options.sizes.width = 100;
  EXPECT_THAT(std::string(MakeBackboneLearner(options).status().message()),
              HasSubstr("width: expected a multiple of head_size 32, found 100"));
  TemporaryDirectory directory;
  EXPECT_THAT(std::string(learner->Restore(directory.path()).message()),
              HasSubstr("learner.safetensors"));
}

}  // namespace
}  // namespace dreamstate::training
