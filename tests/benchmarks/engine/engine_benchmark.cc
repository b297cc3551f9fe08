// Prefill and decode of a random 0.19B RWKV-7 (L12 D768 H12 V65536), beside what this machine can
// do at most in the same run:
//   decode of one stream    reads every weight once a step: its limit is the read bandwidth over as
//   many bytes prefill, many streams   are matrix products: their limit is the peak of the format's
//   multiply-add
// Times are medians; compare ratios of one run, never numbers of two machines.
//   engine_benchmark [--threads N] [--repeats N] [--layers N] [--width N] [--vocab N] [--isa NAME]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/rwkv/engine.h"
#include "kernels/runtime/cpu.h"
#include "tests/benchmarks/kernels/machine_limits.h"
#include "tests/support/random_backbone.h"

namespace dreamstate {
namespace {

using rwkv::WeightFormat;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename Body>
double MedianSeconds(int repeats, const Body& body) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const double begin = Now();
    body();
    seconds.push_back(Now() - begin);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
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

struct Row {
  std::string what;
  double tokens_per_second;
  double share_of_limit;
  const char* limit;
};

void Print(const Row& row) {
  std::printf("  %-24s %10.1f tokens/s   %5.1f %% of %s\n", row.what.c_str(), row.tokens_per_second,
              100 * row.share_of_limit, row.limit);
  std::fflush(stdout);
}

void Measure(const tensors::TensorSet& set, WeightFormat format, int threads, int repeats) {
  kernels::ThreadPool pool(threads);
  constexpr int kPrefill = 512;
  constexpr int kStreams = 64;
  rwkv::Engine engine(rwkv::Weights::Load(set, format).value(),
                      {.max_tokens = kPrefill, .max_sequences = kStreams, .slots = kStreams}, pool);
  const rwkv::Weights& weights = engine.weights();
  const Work work = WorkOf(weights.config);
  const bool pairs =
      format == WeightFormat::kBfloat16 && kernels::ActiveIsa() == kernels::Isa::kAvx512Bf16;
  const double bandwidth = kernels::MeasureReadBandwidth(weights.step_bytes, pool);
  const double peak = pairs ? kernels::MeasureBfloat16Peak(pool)
                            : kernels::MeasureFloat32Peak(kernels::ActiveIsa(), pool);
  std::printf("%s: %.0f MB a step; read %.1f GB/s, peak %.0f GFLOP/s (%s)\n",
              engine.numerics().c_str(), weights.step_bytes / 1e6, bandwidth / 1e9, peak / 1e9,
              pairs ? "vdpbf16ps" : "fp32 fma");

  std::vector<int32_t> tokens(kPrefill);
  for (int i = 0; i < kPrefill; ++i)
    tokens[i] = static_cast<int32_t>((int64_t{i} * 7919) % (weights.config.vocab - 1) + 1);
  std::vector<float> logits(size_t{kStreams} * weights.config.vocab);
  for (const int length : {128, kPrefill}) {
    const auto prefill = [&] {
      engine.slots().Clear(0);
      rwkv::Segment segment;
      segment.slot = 0;
      segment.tokens = std::span<const int32_t>(tokens).first(length);
      segment.logits = logits.data();
      (void)engine.Forward({&segment, 1});
    };
    prefill();
    const double seconds = MedianSeconds(repeats, prefill);
    const double flops = 2 * (length * work.layers_macs + work.head_macs);
    Print({"prefill " + std::to_string(length), length / seconds, flops / seconds / peak, "peak"});
  }
  for (const int streams : {1, 4, 16, kStreams}) {
    constexpr int kSteps = 8;
    std::vector<rwkv::Segment> batch(streams);
    for (int i = 0; i < streams; ++i) {
      engine.slots().Clear(i);
      batch[i].slot = i;
      batch[i].logits = logits.data() + size_t{static_cast<size_t>(i)} * weights.config.vocab;
    }
    const auto decode = [&] {
      for (int step = 0; step < kSteps; ++step) {
        for (int i = 0; i < streams; ++i)
          batch[i].tokens = std::span<const int32_t>(tokens).subspan((step + i) % kPrefill, 1);
        (void)engine.Forward(batch);
      }
    };
    decode();
    const double seconds = MedianSeconds(repeats, decode) / kSteps;
    const double flops = 2.0 * streams * (work.layers_macs + work.head_macs);
    const std::string what =
        "decode " + std::to_string(streams) + (streams == 1 ? " stream" : " streams");
    if (streams <= 4) {
      Print({what, streams / seconds, weights.step_bytes / seconds / bandwidth, "read bandwidth"});
    } else {
      Print({what, streams / seconds, flops / seconds / peak, "peak"});
    }
  }
}

int Run(int argc, char** argv) {
  int threads = 2;
  int repeats = 7;
  rwkv::Config config;
  config.layers = 12;
  config.width = 768;
  config.head_size = 64;
  config.vocab = 65536;
  config.rank_decay = 64;
  config.rank_iclr = 64;
  config.rank_value = 32;
  config.rank_gate = 128;
  std::string isa_name;
  CLI::App app("Prefill and decode speed of a random RWKV-7 beside the machine's limits");
  app.add_option("--threads", threads)->check(CLI::Range(1, 256));
  app.add_option("--repeats", repeats)->check(CLI::Range(1, 1000));
  app.add_option("--layers", config.layers)->check(CLI::Range(1, 128));
  app.add_option("--width", config.width)->check(CLI::Range(64, 8192));
  app.add_option("--vocab", config.vocab)->check(CLI::Range(2, 1 << 17));
  app.add_option("--isa", isa_name, "reference, avx2, avx512 or avx512bf16; default: the best");
  CLI11_PARSE(app, argc, argv);
  config.heads = config.width / config.head_size;
  config.ffn_width = 4 * config.width;
  kernels::Isa isa = kernels::BestIsa();
  if (!isa_name.empty() && (!kernels::ParseIsa(isa_name, &isa) || isa > kernels::BestIsa())) {
    std::fprintf(stderr, "--isa: expected an instruction set of this processor, found \"%s\"\n",
                 isa_name.c_str());
    return 2;
  }
  kernels::SetActiveIsaForTesting(isa);
  const tensors::TensorSet set = dreamstate::testing::RandomBackbone(config, 42);
  std::printf("random RWKV-7 L%d D%d H%d V%d, %d threads, median of %d\n", config.layers,
              config.width, config.heads, config.vocab, threads, repeats);
  for (const WeightFormat format : {WeightFormat::kFloat32, WeightFormat::kBfloat16})
    Measure(set, format, threads, repeats);
  return 0;
}

}  // namespace
}  // namespace dreamstate

int main(int argc, char** argv) { return dreamstate::Run(argc, argv); }
