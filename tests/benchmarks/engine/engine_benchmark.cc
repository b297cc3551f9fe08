// Prefill and decode of a random 0.19B RWKV-7 (L12 D768 H12 V65536) in every weight format on every
// instruction set, beside what this machine can do at most in the same run:
//   decode of one stream    reads every weight once a step: its limit is the read bandwidth over as
//                           many bytes
//   prefill, many streams   are matrix products: their limit is the peak of the format's
//                           multiply-add
// Every repetition times the limit and then each shape, so that other work on the machine weighs on
// both. `best` compares the fastest of each; `busy` compares the processor time that the threads
// got with the peak, which other programs do not stretch. Compare ratios of one run, never numbers
// of two machines.
//   engine_benchmark [--threads N] [--repeats N] [--isa NAME]... [--format NAME]... [--json FILE]
//     [--shape NAME]... [--layers N] [--width N] [--vocab N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/rwkv/engine.h"
#include "kernels/runtime/cpu.h"
#include "nlohmann/json.hpp"
#include "tests/benchmarks/kernels/machine_limits.h"
#include "tests/support/random_backbone.h"

namespace dreamstate {
namespace {

using rwkv::WeightFormat;

constexpr int kPrefill = 512;
constexpr int kStreams = 64;
constexpr int kDecodeSteps = 4;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Processor time of all threads of this program.
double ProcessorNow() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Multiply-adds of one token: every matrix once, and the head when its logits are wanted.
struct Work {
  double layers_macs;
  double head_macs;
};

Work WorkOf(const rwkv::Config& c) {
  const double d = c.width;
  const double ranks = 2.0 * d * (c.rank_decay + c.rank_iclr + c.rank_value + c.rank_gate);
  // WKV-7: four multiply-adds an element of the state.
  const double wkv = 4.0 * d * c.head_size;
  return {c.layers * (4 * d * d + 2 * d * c.ffn_width + ranks + wkv), d * c.vocab};
}

struct Times {
  std::vector<double> seconds;
  double processor = 1e30;  // the least

  template <typename Body>
  void Add(const Body& body) {
    const double processor_begin = ProcessorNow();
    const double begin = Now();
    body();
    seconds.push_back(Now() - begin);
    processor = std::min(processor, ProcessorNow() - processor_begin);
  }
  double best() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double median() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

struct Shape {
  std::string name;
  int tokens;   // of each stream and step
  int streams;  // that decode side by side
  int steps;    // of one timing
  bool memory;  // limited by reading the weights
};

const std::vector<Shape>& Shapes() {
  static const auto& shapes = *new std::vector<Shape>{
      {"decode 1", 1, 1, kDecodeSteps, true}, {"decode 16", 1, 16, 1, false},
      {"decode 64", 1, kStreams, 1, false},   {"prefill 128", 128, 1, 1, false},
      {"prefill 512", kPrefill, 1, 1, false},
  };
  return shapes;
}

class Bench {
 public:
  Bench(const tensors::TensorSet& set, WeightFormat format, int threads,
        const std::vector<Shape>& shapes)
      : shapes_(shapes),
        pool_(threads),
        engine_(rwkv::Weights::Load(set, format).value(),
                {.max_tokens = kPrefill, .max_sequences = kStreams, .slots = kStreams}, pool_),
        probe_(engine_.weights().step_bytes),
        tokens_(kPrefill),
        logits_(size_t{kStreams} * engine_.config().vocab) {
    for (int i = 0; i < kPrefill; ++i) {
      tokens_[i] = static_cast<int32_t>((int64_t{i} * 7919) % (engine_.config().vocab - 1) + 1);
    }
    for (int i = 0; i < kStreams; ++i) engine_.slots().Clear(i);
  }

  // One row a shape, printed and returned.
  nlohmann::json Run(int repeats) {
    const WeightFormat format = engine_.weights().format;
    const kernels::Isa isa = kernels::ActiveIsa();
    const std::vector<Shape>& shapes = shapes_;
    Times read;
    std::vector<Times> times(shapes.size());
    double peak = 0;
    for (size_t i = 0; i < shapes.size(); ++i) Forward(shapes[i]);
    for (int repeat = 0; repeat < repeats; ++repeat) {
      peak = std::max(peak, kernels::MeasurePeakOf(format, isa, pool_));
      for (size_t i = 0; i < shapes.size(); ++i) {
        if (shapes[i].memory) {
          for (int k = 0; k < 4; ++k) {
            read.Add([&] { probe_.Seconds(pool_); });
            times[i].Add([&] { Forward(shapes[i]); });
          }
        } else {
          times[i].Add([&] { Forward(shapes[i]); });
        }
      }
    }
    return Report(read, times, peak);
  }

 private:
  void Forward(const Shape& shape) {
    std::vector<rwkv::Segment> batch(shape.streams);
    for (int step = 0; step < shape.steps; ++step) {
      for (int i = 0; i < shape.streams; ++i) {
        batch[i].slot = i;
        batch[i].tokens = std::span<const int32_t>(tokens_).subspan(
            shape.tokens == 1 ? step + i : 0, shape.tokens);
        batch[i].logits = logits_.data() + static_cast<size_t>(i) * engine_.config().vocab;
      }
      (void)engine_.Forward(batch);
    }
  }

  nlohmann::json Report(const Times& read, const std::vector<Times>& times, double peak) const {
    const rwkv::Weights& weights = engine_.weights();
    const Work work = WorkOf(weights.config);
    const kernels::Isa isa = kernels::ActiveIsa();
    const double step_bytes = static_cast<double>(weights.step_bytes);
    const bool was_read = !read.seconds.empty();
    const double bandwidth = was_read ? static_cast<double>(probe_.bytes()) / read.best() : 0;
    const double median_bandwidth =
        was_read ? static_cast<double>(probe_.bytes()) / read.median() : 0;
    const char* peak_name = kernels::PeakName(weights.format, isa);
    std::printf("%s: %.1f MB a step; read %.1f GB/s (median %.1f), peak %.0f GOP/s (%s)\n",
                engine_.numerics().c_str(), step_bytes / 1e6, bandwidth / 1e9,
                median_bandwidth / 1e9, peak / 1e9, peak_name);
    std::printf("  %-12s %10s %10s %8s %8s %8s  %s\n", "shape", "tokens/s", "median", "best",
                "median", "busy", "of");
    nlohmann::json rows = nlohmann::json::array();
    double one_stream = 0;
    for (size_t i = 0; i < times.size(); ++i) {
      const Shape& shape = shapes_[i];
      const double tokens = static_cast<double>(shape.tokens) * shape.streams * shape.steps;
      const double best = tokens / times[i].best();
      const double heads = static_cast<double>(shape.streams) * shape.steps;
      const double operations = 2 * (tokens * work.layers_macs + heads * work.head_macs);
      const double bytes = step_bytes * shape.steps;
      const auto share = [&](double seconds, double limit) {
        if (limit <= 0) return 0.0;
        return (shape.memory ? bytes : operations) / seconds / limit;
      };
      const double best_share = share(times[i].best(), shape.memory ? bandwidth : peak);
      const double median_share = share(times[i].median(), shape.memory ? median_bandwidth : peak);
      double busy = 0;
      if (shape.memory) {
        busy = bytes / times[i].processor / (static_cast<double>(probe_.bytes()) / read.processor);
      } else if (peak > 0) {
        busy = operations / times[i].processor / (peak / pool_.threads());
      }
      std::printf("  %-12s %10.1f %10.1f %7.1f%% %7.1f%% %7.1f%%  %s", shape.name.c_str(), best,
                  tokens / times[i].median(), 100 * best_share, 100 * median_share, 100 * busy,
                  shape.memory ? "read bandwidth" : "peak");
      if (shape.memory) one_stream = times[i].median() / shape.steps;
      if (shape.tokens == 1 && shape.streams > 1 && one_stream > 0) {
        std::printf(", %.1f x one stream", one_stream * shape.streams / times[i].median());
      }
      std::printf("\n");
      rows.push_back({{"format", rwkv::WeightFormatName(weights.format)},
                      {"isa", kernels::IsaName(isa)},
                      {"threads", pool_.threads()},
                      {"shape", shape.name},
                      {"tokens_per_second", best},
                      {"median_tokens_per_second", tokens / times[i].median()},
                      {"limit", shape.memory ? "read" : peak_name},
                      {"share_of_limit", best_share},
                      {"median_share_of_limit", median_share},
                      {"busy_share_of_limit", busy},
                      {"step_bytes", weights.step_bytes},
                      {"read_bytes_per_second", bandwidth},
                      {"peak_operations_per_second", peak}});
    }
    std::fflush(stdout);
    return rows;
  }

  std::vector<Shape> shapes_;
  kernels::ThreadPool pool_;
  rwkv::Engine engine_;
  kernels::ReadProbe probe_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
};

int Run(int argc, char** argv) {
  int threads = 2;
  int repeats = 5;
  rwkv::Config config;
  config.layers = 12;
  config.width = 768;
  config.head_size = 64;
  config.vocab = 65536;
  config.rank_decay = 64;
  config.rank_iclr = 64;
  config.rank_value = 32;
  config.rank_gate = 128;
  std::vector<std::string> isa_names;
  std::vector<std::string> format_names = {"fp32", "bf16", "int8"};
  std::vector<std::string> shape_names;
  std::string json_file;
  CLI::App app("Prefill and decode speed of a random RWKV-7 beside the machine's limits");
  app.add_option("--threads", threads)->check(CLI::Range(1, 256));
  app.add_option("--repeats", repeats)->check(CLI::Range(1, 1000));
  app.add_option("--layers", config.layers)->check(CLI::Range(1, 128));
  app.add_option("--width", config.width)->check(CLI::Range(64, 8192));
  app.add_option("--vocab", config.vocab)->check(CLI::Range(kPrefill, 1 << 17));
  app.add_option(
      "--isa", isa_names,
      "reference, avx2, avx512, avx512vnni, avx512bf16 or amx; default: all but reference");
  app.add_option("--format", format_names, "fp32, bf16 or int8; default: all");
  app.add_option("--shape", shape_names, "such as \"decode 16\"; default: all");
  app.add_option("--json", json_file, "write the table to this file, too");
  CLI11_PARSE(app, argc, argv);
  config.heads = config.width / config.head_size;
  config.ffn_width = 4 * config.width;
  std::vector<kernels::Isa> isas;
  for (const std::string& name : isa_names) {
    kernels::Isa isa;
    if (!kernels::ParseIsa(name, &isa) || isa > kernels::BestIsa()) {
      std::fprintf(stderr, "--isa: expected an instruction set of this processor, found \"%s\"\n",
                   name.c_str());
      return 2;
    }
    isas.push_back(isa);
  }
  if (isas.empty()) {
    for (int i = static_cast<int>(kernels::BestIsa()); i > 0; --i) {
      isas.push_back(static_cast<kernels::Isa>(i));
    }
  }
  std::vector<Shape> shapes;
  for (const Shape& shape : Shapes()) {
    if (shape_names.empty() ||
        std::find(shape_names.begin(), shape_names.end(), shape.name) != shape_names.end()) {
      shapes.push_back(shape);
    }
  }
  const tensors::TensorSet set = dreamstate::testing::RandomBackbone(config, 42);
  std::printf("random RWKV-7 L%d D%d H%d V%d, %d threads, %d repetitions\n", config.layers,
              config.width, config.heads, config.vocab, threads, repeats);
  nlohmann::json table = nlohmann::json::array();
  for (const std::string& name : format_names) {
    const absl::StatusOr<WeightFormat> format = rwkv::ParseWeightFormat(name);
    if (!format.ok()) {
      std::fprintf(stderr, "--format: %s\n", format.status().ToString().c_str());
      return 2;
    }
    Bench bench(set, *format, threads, shapes);
    for (const kernels::Isa isa : isas) {
      kernels::SetActiveIsaForTesting(isa);
      for (nlohmann::json& row : bench.Run(repeats)) table.push_back(std::move(row));
      // After each, so that an end half-way leaves what there is.
      if (!json_file.empty()) std::ofstream(json_file) << table.dump(1) << "\n";
    }
  }
  return 0;
}

}  // namespace
}  // namespace dreamstate

int main(int argc, char** argv) { return dreamstate::Run(argc, argv); }
