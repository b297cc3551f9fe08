// The configs of tests/benchmarks/learning: that they are what a run accepts, and ask for
// something.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/training/run_config.h"
#include "core/training/sources.h"
#include "gtest/gtest.h"

namespace dreamstate::training {
namespace {

TEST(LearningConfigs, AreAcceptedAndScoreAnswers) {
  std::vector<std::string> tasks;
  for (const auto& entry : std::filesystem::directory_iterator(DREAMSTATE_LEARNING)) {
    if (entry.path().extension() != ".json") continue;
    const std::string path = entry.path().string();
    const auto config = ParseRunConfig(path, ReadFile(path, 1 << 20).value());
    ASSERT_TRUE(config.ok()) << config.status();
    ASSERT_EQ(config->data.source, "task") << path;
    tasks.push_back(config->data.task.task);
    // A task's file is named after it.
    EXPECT_EQ(entry.path().stem().string().substr(0, tasks.back().size()), tasks.back());
    for (const bool held_out : {false, true}) {
      const auto source = MakeTaskSource(config->data.task, config->batch, config->seed, held_out);
      ASSERT_TRUE(source.ok()) << path << ": " << source.status();
      const auto batch = (*source)->Next();
      ASSERT_TRUE(batch.ok()) << path << ": " << batch.status();
      const auto scored = std::count_if(batch->targets.begin(), batch->targets.end(),
                                        [](int32_t target) { return target >= 0; });
      EXPECT_GE(scored, batch->rows) << path;
      const auto largest = std::max_element(batch->inputs.begin(), batch->inputs.end());
      EXPECT_LT(*largest, TaskVocab(config->data.task)) << path;
    }
  }
  std::sort(tasks.begin(), tasks.end());
  EXPECT_EQ(tasks, (std::vector<std::string>{"mqar", "parity", "reversal"}));
}

}  // namespace
}  // namespace dreamstate::training
