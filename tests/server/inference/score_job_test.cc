#include "server/inference/score_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>

#include "tests/server/inference/serving_fixture.h"

namespace dreamstate::server {
namespace {

std::vector<int32_t> Tokens(std::string_view text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

ScoreResult Score(const Serving& serving, Source source, std::string_view context,
                  std::string_view target) {
  ScoreTask task;
  task.session = serving.session;
  task.source = std::move(source);
  task.context = Tokens(context);
  task.target = Tokens(target);
  std::promise<absl::StatusOr<ScoreResult>> promise;
  EXPECT_TRUE(serving.session->scheduler
                  ->Submit(std::make_shared<ScoreJob>(
                      task, serving.Times(),
                      [&](absl::StatusOr<ScoreResult> result) { promise.set_value(result); }))
                  .ok());
  return promise.get_future().get().value();
}

TEST(ScoreJob, TotalsTheTargetAndOnlyTheTarget) {
  Serving serving;
  const ScoreResult all = Score(serving, {}, "", "the whole text");
  EXPECT_EQ(all.token_nats.size(), 14u);
  double sum = 0;
  for (const float nats : all.token_nats) sum += double{nats};
  EXPECT_EQ(all.total_nats, sum);
  // The separator is read first from the empty state: the same as a context that is the separator.
  const ScoreResult fed = Score(serving, {}, std::string(1, char{kSeparator}), "the whole text");
  EXPECT_EQ(fed.token_nats, all.token_nats);
  // A text cut into context and target gives the target's part, to the bit.
  const ScoreResult tail =
      Score(serving, {}, std::string(1, char{kSeparator}) + "the whole ", "text");
  EXPECT_EQ(tail.token_nats, std::vector<float>(all.token_nats.begin() + 10, all.token_nats.end()));
}

TEST(ScoreJob, TheBudgetChangesNothing) {
  const std::string text(500, 'k');
  Serving narrow({.slots = 1, .max_step_tokens = 3});
  Serving wide({.slots = 1, .max_step_tokens = 2048});
  EXPECT_EQ(Score(narrow, {}, "abc", text).token_nats, Score(wide, {}, "abc", text).token_nats);
}

TEST(ScoreJob, AStateCarriesItsOwnContext) {
  Serving serving;
  DecodeTask task = serving.Task("some context", 5);
  task.save.emplace();
  const BranchText branch = serving.Decode(task).at(0);
  const ScoreResult from_text = Score(serving, {}, "some context" + branch.raw, "target");
  const ScoreResult from_state = Score(serving, serving.Stored("s1"), "", "target");
  ASSERT_EQ(from_state.token_nats.size(), from_text.token_nats.size());
  // The first comes from the state's last hidden vector, by another sum of the same logits.
  EXPECT_NEAR(from_state.token_nats[0], from_text.token_nats[0], 1e-5);
  for (size_t i = 1; i < from_text.token_nats.size(); ++i) {
    EXPECT_EQ(from_state.token_nats[i], from_text.token_nats[i]);
  }
  EXPECT_EQ(Score(serving, serving.Stored("s1"), "", "t").token_nats.size(), 1u);
}

TEST(ScoreJob, AgreesWithTheLogProbabilitiesOfADecode) {
  Serving serving;
  DecodeTask task = serving.Task("prompt", 8);
  task.top_log_probs = 0;
  const BranchText branch = serving.Decode(task).at(0);
  const ScoreResult score = Score(serving, {}, "prompt", branch.raw);
  ASSERT_EQ(score.token_nats.size(), branch.log_probs.size());
  for (size_t i = 0; i < branch.log_probs.size(); ++i) {
    EXPECT_NEAR(score.token_nats[i], -branch.log_probs[i], 1e-5);
  }
}

}  // namespace
}  // namespace dreamstate::server
