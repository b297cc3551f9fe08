// How fast the trainer steps, beside a torch module of the same step (plain_backbone.h): both take
// turns in one run. Then where the time of each goes.
//   training_benchmark [--layers L] [--width D] [--rows B] [--tokens T] [--rounds R] [--threads N]
//                      [--fp32] [--json]
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/base/draws.h"
#include "core/training/fork_on_torch.h"
#include "core/training/learner_options.h"
#include "nlohmann/json.hpp"
#include "tests/benchmarks/training/op_times.h"
#include "tests/benchmarks/training/plain_backbone.h"

namespace dreamstate::training {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(const std::function<void()>& body) {
  const auto begin = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double ResidentMegabytes() {
  std::ifstream file("/proc/self/statm");
  long total = 0, resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

Batch RandomBatch(int rows, int tokens) {
  Draws draws(1, 0, 0);
  Batch batch = {.rows = rows, .tokens = tokens};
  for (int i = 0; i < rows * tokens; ++i) {
    batch.inputs.push_back(static_cast<int32_t>(draws.Below(256)));
    batch.targets.push_back(static_cast<int32_t>(draws.Below(256)));
  }
  batch.row.resize(rows);
  return batch;
}

struct Side {
  std::string name;
  std::function<void()> step;
  std::vector<double> seconds = {};
  std::map<std::string, double> parts = {};  // seconds a step
};

int Main(int argc, char** argv) {
  int layers = 4, width = 256, rows = 8, tokens = 512, rounds = 7, threads = 2;
  bool fp32 = false, json = false;
  CLI::App app("Times the trainer's step beside a plain torch module's");
  app.add_option("--layers", layers, "L");
  app.add_option("--width", width, "D");
  app.add_option("--rows", rows, "B");
  app.add_option("--tokens", tokens, "T");
  app.add_option("--rounds", rounds, "Measured steps of each");
  app.add_option("--threads", threads, "Of both");
  app.add_flag("--fp32", fp32, "Matrix products in fp32, not bf16 where the processor has it");
  app.add_flag("--json", json, "One JSON object");
  CLI11_PARSE(app, argc, argv);

  LearnerOptions options;
  options.sizes = {.vocab = 256, .layers = layers, .width = width};
  options.bf16 = !fp32;
  options.threads = threads;
  const auto made = MakeBackboneLearner(options);
  if (!made.ok()) {
    std::cerr << made.status().message() << "\n";
    return 1;
  }
  Learner& learner = **made;
  const Batch batch = RandomBatch(rows, tokens);
  // Before the other side exists.
  const double megabytes_before = ResidentMegabytes();
  for (int i = 0; i < 2; ++i) (void)learner.Step(batch, 1e-4);
  const double megabytes = ResidentMegabytes() - megabytes_before;
  const bool bf16 =
      learner.device().find("bf16") != std::string::npos && learner.device().ends_with(" bf16");
  kernels::ThreadPool pool(threads, ForkOnTorch);
  Backbone values(CompleteSizes(options.sizes).value(), torch::kCPU, torch::kFloat, pool);
  values.Initialise(1);
  PlainBackbone plain(values, bf16, pool);
  Side sides[] = {{"trainer", [&] { (void)learner.Step(batch, 1e-4); }},
                  {"plain torch module", [&] { plain.Step(batch, 1e-4); }}};
  for (Side& side : sides) {
    for (int i = 0; i < 2; ++i) side.step();
  }
  for (int round = 0; round < rounds; ++round) {
    for (Side& side : sides) side.seconds.push_back(Seconds(side.step));
  }
  constexpr int kTimedSteps = 3;
  for (Side& side : sides) {
    OpTimes times;
    times.Begin();
    const double whole = Seconds([&] {
      for (int i = 0; i < kTimedSteps; ++i) side.step();
    });
    double sum = 0;
    for (const auto& [kind, seconds] : times.End()) {
      side.parts[kind] = seconds / kTimedSteps;
      sum += seconds;
    }
    side.parts["rest"] = (whole - sum) / kTimedSteps;
  }

  const double step_tokens = static_cast<double>(rows) * tokens;
  const double ratio = Median(sides[1].seconds) / Median(sides[0].seconds);
  if (json) {
    nlohmann::json out = {{"device", learner.device()}, {"ratio", ratio}, {"megabytes", megabytes}};
    for (const Side& side : sides) {
      out["sides"].push_back({{"name", side.name},
                              {"tokens_per_second", step_tokens / Median(side.seconds)},
                              {"seconds_by_part", side.parts}});
    }
    std::cout << out.dump(2) << "\n";
    return 0;
  }
  std::printf("L%d D%d, %d x %d tokens a step, %d threads, %s, medians of %d\n\n", layers, width,
              rows, tokens, threads, learner.device().c_str(), rounds);
  std::printf("| | tokens a second | ms a step |\n|---|---:|---:|\n");
  for (const Side& side : sides) {
    const double seconds = Median(side.seconds);
    std::printf("| %s | %.0f | %.1f |\n", side.name.c_str(), step_tokens / seconds, 1e3 * seconds);
  }
  std::printf("\nThe trainer is %.2f times as fast; a step of it takes %.0f MB.\n\n| ms a step |",
              ratio, megabytes);
  std::map<std::string, double> kinds;
  for (const Side& side : sides) {
    std::printf(" %s |", side.name.c_str());
    kinds.insert(side.parts.begin(), side.parts.end());
  }
  std::printf("\n|---|---:|---:|\n");
  for (const auto& [kind, unused] : kinds) {
    std::printf("| %s |", kind.c_str());
    for (const Side& side : sides) {
      const auto found = side.parts.find(kind);
      std::printf(" %.1f |", found == side.parts.end() ? 0.0 : 1e3 * found->second);
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace
}  // namespace dreamstate::training

int main(int argc, char** argv) { return dreamstate::training::Main(argc, argv); }
