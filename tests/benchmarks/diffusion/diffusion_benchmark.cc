// What states cost that a state DiT makes: milliseconds a state by batch, mode and steps, and how
// much of the rate of a matrix product of its largest shape the whole of it reaches.
//   diffusion_benchmark --repository DIR --model NAME [--threads N] [--repeats N] [--json]
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/diffusion/state_generator.h"
#include "core/diffusion/torch_threads.h"
#include "core/repository/repository.h"
#include "kernels/runtime/cpu.h"
#include "nlohmann/json.hpp"

namespace dreamstate::diffusion {
namespace {

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Multiplications and additions of matrix products in one pass for one state, with a label.
double PassOperations(const DitSizes& sizes) {
  const double width = sizes.width;
  const double tokens = sizes.tokens() + sizes.registers + 1;
  const double attention = 4 * width * width + 2 * tokens * width;
  const double mlp = 3 * width * sizes.mlp;
  return 2 * (sizes.layers * tokens * (attention + mlp) +
              2 * static_cast<double>(sizes.tokens()) * sizes.token_size * width);
}

// Operations a second of [rows][width] x [width][2 mlp], the largest product of a block.
double ProductRate(const DitSizes& sizes, int states, torch::ScalarType type, int repeats) {
  const int64_t rows = int64_t{states} * (sizes.tokens() + sizes.registers + 1);
  const auto a = torch::randn({rows, sizes.width}).to(type);
  const auto b = torch::randn({sizes.width, 2 * sizes.mlp}).to(type);
  std::vector<double> times;
  for (int i = 0; i < 3 * repeats; ++i) times.push_back(Seconds([&] { torch::mm(a, b); }));
  return 4.0 * static_cast<double>(rows) * sizes.width * sizes.mlp / Median(times);
}

struct Way {
  const char* name;
  GenerateOptions options;
  int passes;
};

int Run(const std::string& path, const std::string& model, int threads, int repeats, bool json) {
  const auto repository = repository::Repository::Open(path);
  if (!repository.ok()) {
    std::fprintf(stderr, "%s\n", repository.status().ToString().c_str());
    return 1;
  }
  const auto numbers = (*repository)->ListVersionNumbers(model);
  const auto manifest = (*repository)->ReadVersion(model, numbers.ok() ? numbers->front() : 0);
  const auto set = manifest.ok() ? (*repository)->LoadComponent(*manifest, "state_dit")
                                 : absl::StatusOr<tensors::TensorSet>(manifest.status());
  if (!set.ok()) {
    std::fprintf(stderr, "%s\n", set.status().ToString().c_str());
    return 1;
  }
  const auto generator = StateGenerator::Load(*set, /*bf16=*/true).value();
  SetTorchThreads(threads);
  const torch::NoGradGuard no_gradients;
  const bool bf16 = kernels::ActiveIsa() >= kernels::Isa::kAvx512Bf16;
  const Way ways[] = {{"mean", {.mode = GenerateMode::kMean}, 1},
                      {"euler 4", {.steps = 4, .solver = Solver::kEuler}, 4},
                      {"heun 10", {.steps = 10}, 19},
                      {"heun 40", {.steps = 40}, 79}};
  nlohmann::json rows = nlohmann::json::array();
  if (!json) {
    std::printf("%s, %d threads, %s products\n\n%-8s  %6s  %9s  %9s  %12s\n",
                std::string(kernels::IsaName(kernels::ActiveIsa())).c_str(), threads,
                bf16 ? "bf16" : "fp32", "way", "states", "ms/state", "GFLOP/s", "of product");
  }
  for (const int states : {1, 8, 32}) {
    const double rate =
        ProductRate(generator->sizes(), states, bf16 ? torch::kBFloat16 : torch::kFloat, repeats);
    std::vector<StateRequest> requests(static_cast<size_t>(states));
    for (int i = 0; i < states; ++i) {
      requests[static_cast<size_t>(i)].conditions = {{.label = 0, .text = {}}};
      requests[static_cast<size_t>(i)].sample = i;
    }
    for (const Way& way : ways) {
      std::vector<double> times;
      for (int i = 0; i < repeats; ++i) {
        times.push_back(
            Seconds([&] { generator->Generate(requests, way.options).status().IgnoreError(); }));
      }
      const double seconds = Median(times);
      const double reached = PassOperations(generator->sizes()) * way.passes * states / seconds;
      rows.push_back({{"way", way.name},
                      {"states", states},
                      {"ms_per_state", 1e3 * seconds / states},
                      {"gflops", reached / 1e9},
                      {"share_of_product", reached / rate}});
      if (json) continue;
      std::printf("%-8s  %6d  %9.1f  %9.1f  %10.0f %%\n", way.name, states, 1e3 * seconds / states,
                  reached / 1e9, 100 * reached / rate);
    }
  }
  if (json) std::printf("%s\n", rows.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace dreamstate::diffusion

int main(int argc, char** argv) {
  CLI::App app("What states cost that a state DiT makes");
  std::string repository, model;
  int threads = 1, repeats = 5;
  bool json = false;
  app.add_option("--repository", repository, "Model repository")->required();
  app.add_option("--model", model, "Its model")->required();
  app.add_option("--threads", threads, "Of torch")->capture_default_str();
  app.add_option("--repeats", repeats, "Medians are of so many")->capture_default_str();
  app.add_flag("--json", json, "One line of JSON");
  CLI11_PARSE(app, argc, argv);
  return dreamstate::diffusion::Run(repository, model, threads, repeats, json);
}
