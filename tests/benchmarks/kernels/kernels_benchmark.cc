// Prints what the kernels reach at the shapes of a 0.19B model beside what the machine can do in
// the same run.
//   kernels_benchmark [--threads N] [--isa NAME] [--seconds S]
// The ratios are what to read: absolute numbers move with whatever else the machine does.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/activation/activation.h"
#include "kernels/gemm/gemm.h"
#include "kernels/norm/norm.h"
#include "kernels/runtime/cpu.h"
#include "kernels/runtime/thread_pool.h"
#include "kernels/sampling/log_sum_exp.h"
#include "kernels/token_shift/token_shift.h"
#include "kernels/wkv7/wkv7.h"
#include "tests/benchmarks/kernels/machine_limits.h"

namespace dreamstate::kernels {
namespace {

constexpr int kLayers = 12;
constexpr int kWidth = 768;
constexpr int kHeads = 12;
constexpr int kHeadSize = 64;
constexpr int kVocab = 65536;

struct Options {
  int threads = 0;  // 0: one a processor
  bool every_isa = true;
  Isa isa = Isa::kReference;
  double seconds = 0.15;    // a measurement
  std::string_view format;  // empty: all
};

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Processor time of all threads of this program.
double ProcessorNow() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The median and the least seconds of `run`, and the least processor time of all threads, which
// other programs do not stretch.
struct Seconds {
  double median;
  double least;
  double processor;
};
template <typename Run>
Seconds Time(double budget, const Run& run) {
  run();
  std::vector<double> all;
  double processor = 1e30;
  const double end = Now() + budget;
  do {
    const double processor_begin = ProcessorNow();
    const double begin = Now();
    run();
    all.push_back(Now() - begin);
    processor = std::min(processor, ProcessorNow() - processor_begin);
  } while (Now() < end || all.size() < 3);
  std::sort(all.begin(), all.end());
  return {all[all.size() / 2], all.front(), processor};
}

std::vector<float> Random(size_t count, float low = -1.0f, float high = 1.0f) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

struct Shape {
  int outputs;
  int inputs;
};

// Matrices of one shape and format, enough of them that no cache below the last holds all, as in a
// model's layers.
class Layers {
 public:
  Layers(const Shape& shape, WeightFormat format) {
    const std::vector<float> weights = Random(static_cast<size_t>(shape.outputs) * shape.inputs);
    const size_t count = shape.outputs > 8192 ? 1 : kLayers;
    for (size_t i = 0; i < count; ++i) {
      matrices_.push_back(
          PackedMatrix::Pack(weights.data(), shape.outputs, shape.inputs, false, format));
    }
  }
  const std::vector<PackedMatrix>& matrices() const { return matrices_; }
  size_t bytes() const { return matrices_.size() * matrices_[0].bytes(); }

 private:
  std::vector<PackedMatrix> matrices_;
};

void BenchmarkGemm(const Options& options, const std::vector<Isa>& isas, ThreadPool& pool) {
  std::printf(
      "\nMatrix products: all layers of a shape, one after the other. read: share of the memory "
      "bandwidth measured with\n"
      "as many bytes; peak: share of the multiply-add peak of the instruction set (of its "
      "multiply-add for the format); busy: the same share of the processor time that the threads "
      "got.\n");
  std::printf("%-11s %-5s %13s %5s %10s %9s %9s %6s %6s %6s\n", "isa", "w", "outputs x in", "rows",
              "us/layer", "GFLOP/s", "GB/s", "read", "peak", "busy");
  const Shape shapes[] = {{768, 768}, {3072, 768}, {768, 3072}, {65536, 768}};
  constexpr const char* kFormatNames[] = {"fp32", "bf16", "int8"};
  for (const WeightFormat format :
       {WeightFormat::kFloat32, WeightFormat::kBfloat16, WeightFormat::kInt8}) {
    const char* format_name = kFormatNames[static_cast<int>(format)];
    if (!options.format.empty() && options.format != format_name) continue;
    for (const Shape& shape : shapes) {
      const Layers layers(shape, format);
      for (const Isa isa : isas) {
        for (const int rows : {1, 4, 16, 64, 512}) {
          if (isa == Isa::kReference && (rows > 4 || shape.outputs > 8192)) continue;
          const double read = MeasureReadBandwidth(layers.bytes(), pool);
          const double peak = MeasurePeakOf(format, isa, pool);
          SetActiveIsaForTesting(isa);
          const std::vector<float> x = Random(static_cast<size_t>(rows) * shape.inputs);
          std::vector<float> y(static_cast<size_t>(rows) * shape.outputs);
          const size_t scratch_bytes = GemmScratchBytes(rows, shape.inputs);
          const auto scratch = MakeAligned<std::byte>(scratch_bytes);
          const Seconds seconds = Time(options.seconds, [&] {
            for (const PackedMatrix& w : layers.matrices()) {
              const GemmTask task = {.w = &w,
                                     .x = x.data(),
                                     .x_stride = shape.inputs,
                                     .y = y.data(),
                                     .y_stride = shape.outputs,
                                     .rows = rows};
              Gemm({&task, 1}, {scratch.get(), scratch_bytes}, pool);
            }
          });
          const double operations = 2.0 * rows * shape.outputs * shape.inputs *
                                    static_cast<double>(layers.matrices().size());
          const double bandwidth = static_cast<double>(layers.bytes()) / seconds.least;
          std::printf(
              "%-11s %-5s %7dx%-5d %5d %10.1f %9.1f %9.1f %5.0f%% %5.0f%% %5.0f%%\n",
              IsaName(isa).data(), format_name, shape.outputs, shape.inputs, rows,
              seconds.least * 1e6 / static_cast<double>(layers.matrices().size()),
              operations / seconds.least * 1e-9, bandwidth * 1e-9, 100.0 * bandwidth / read,
              peak > 0.0 ? 100.0 * operations / seconds.least / peak : NAN,
              peak > 0.0 ? 100.0 * operations / seconds.processor / (peak / pool.threads()) : NAN);
          std::fflush(stdout);
        }
      }
    }
  }
}

void PrintOther(const char* name, Isa isa, int rows, const Seconds& seconds) {
  std::printf("%-26s %-11s %5d %10.2f %12.4f\n", name, IsaName(isa).data(), rows,
              seconds.least * 1e6, seconds.least * 1e6 / rows);
  std::fflush(stdout);
}

// `sequences` of `tokens` each.
void BenchmarkOthers(const Options& options, Isa isa, int sequences, int tokens, ThreadPool& pool) {
  SetActiveIsaForTesting(isa);
  const int rows = sequences * tokens;
  const size_t size = static_cast<size_t>(rows) * kWidth;
  std::vector<float> a = Random(size, 0.1f, 0.9f);
  std::vector<float> b = Random(size, 0.6f, 0.99f);
  std::vector<float> c = Random(size, -0.1f, 0.1f);
  std::vector<float> d = Random(size);
  std::vector<std::vector<float>> outs(6, std::vector<float>(size));
  const std::vector<float> vector = Random(kWidth);
  const std::vector<int> counts(sequences, tokens);
  std::vector<std::vector<float>> states(
      sequences, std::vector<float>(static_cast<size_t>(kWidth) * kHeadSize));
  std::vector<float*> state_pointers;
  for (auto& state : states) state_pointers.push_back(state.data());
  std::vector<std::vector<float>> carried(sequences, std::vector<float>(kWidth));
  std::vector<float*> carried_pointers;
  for (auto& vector_before : carried) carried_pointers.push_back(vector_before.data());

  PrintOther("wkv7", isa, rows, Time(options.seconds, [&] {
               Wkv7({.heads = kHeads,
                     .head_size = kHeadSize,
                     .tokens = counts,
                     .state = state_pointers,
                     .r = d.data(),
                     .w = b.data(),
                     .k = c.data(),
                     .v = d.data(),
                     .a = a.data(),
                     .kk = c.data()},
                    outs[0].data(), pool);
             }));
  std::vector<const float*> mixes(6, vector.data());
  std::vector<float*> mixed;
  for (auto& out : outs) mixed.push_back(out.data());
  PrintOther("token shift, 6 mixes", isa, rows, Time(options.seconds, [&] {
               TokenShift({.width = kWidth,
                           .tokens = counts,
                           .carried = carried_pointers,
                           .x = d.data(),
                           .mixes = mixes,
                           .out = mixed},
                          pool);
             }));
  PrintOther("layer norm", isa, rows, Time(options.seconds, [&] {
               LayerNorm(d.data(), vector.data(), vector.data(), 1e-5f, rows, kWidth,
                         outs[0].data(), pool);
             }));
  PrintOther("group norm, bonus, gate", isa, rows, Time(options.seconds, [&] {
               GroupNormBonusGateRows(
                   {kHeads, kHeadSize, 64e-5f, vector.data(), vector.data(), vector.data(),
                    d.data(), a.data(), b.data(), c.data(), d.data()},
                   rows, outs[0].data(), pool);
             }));
  PrintOther("time mix gates", isa, rows, Time(options.seconds, [&] {
               TimeMixGateRows({.heads = kHeads,
                                .head_size = kHeadSize,
                                .w0 = vector.data(),
                                .a0 = vector.data(),
                                .v0 = vector.data(),
                                .k_k = vector.data(),
                                .k_a = vector.data(),
                                .w = outs[0].data(),
                                .a = outs[1].data(),
                                .v_mix = a.data(),
                                .v_first = b.data(),
                                .k = outs[2].data(),
                                .v = outs[3].data(),
                                .kk = outs[4].data()},
                               rows, pool);
             }));
  const int nll_rows = std::min(rows, 64);
  const std::vector<float> logits = Random(static_cast<size_t>(nll_rows) * kVocab, -8.0f, 8.0f);
  const std::vector<int32_t> targets(nll_rows, 5);
  std::vector<float> nll(nll_rows);
  PrintOther("negative log-likelihood", isa, nll_rows, Time(options.seconds, [&] {
               NegativeLogLikelihood(logits.data(), kVocab, nll_rows, kVocab, targets.data(),
                                     nll.data(), pool);
             }));
}

void BenchmarkPool(const Options& options, ThreadPool& pool) {
  constexpr int kRegions = 1000;
  const Seconds seconds = Time(options.seconds, [&] {
    for (int i = 0; i < kRegions; ++i) pool.ParallelFor(64, 1, [](int64_t, int64_t, int) {});
  });
  std::printf("\nA parallel region that does nothing: %.2f us (median %.2f us)\n",
              seconds.least / kRegions * 1e6, seconds.median / kRegions * 1e6);
}

bool ParseOptions(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (++i == argc) return false;
    if (name == "--threads") {
      options->threads = std::atoi(argv[i]);
    } else if (name == "--seconds") {
      options->seconds = std::atof(argv[i]);
    } else if (name == "--format") {
      options->format = argv[i];
    } else if (name == "--isa") {
      options->every_isa = false;
      if (!ParseIsa(argv[i], &options->isa) || options->isa > BestIsa()) return false;
    } else {
      return false;
    }
  }
  return true;
}

int Main(int argc, char** argv) {
  Options options;
  if (!ParseOptions(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: kernels_benchmark [--threads N] [--isa "
                 "reference|avx2|avx512|avx512vnni|avx512bf16|amx] "
                 "[--format fp32|bf16|int8] [--seconds S]\n");
    return 2;
  }
  ThreadPool pool(options.threads > 0
                      ? options.threads
                      : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  std::vector<Isa> isas;
  for (int i = 0; i <= static_cast<int>(BestIsa()); ++i) {
    if (options.every_isa || static_cast<Isa>(i) == options.isa)
      isas.push_back(static_cast<Isa>(i));
  }
  std::printf("%d threads, best instruction set: %s\n", pool.threads(), IsaName(BestIsa()).data());
  for (const size_t mib : {16, 64, 256}) {
    std::printf("read %4zu MiB: %.1f GB/s\n", mib, MeasureReadBandwidth(mib << 20, pool) * 1e-9);
  }
  std::printf("multiply-add peak: avx2 %.0f, avx512 %.0f, vdpbf16ps %.0f GFLOP/s\n",
              MeasureFloat32Peak(Isa::kAvx2, pool) * 1e-9,
              MeasureFloat32Peak(Isa::kAvx512, pool) * 1e-9, MeasureBfloat16Peak(pool) * 1e-9);
  BenchmarkPool(options, pool);
  BenchmarkGemm(options, isas, pool);
  std::printf("\n%-26s %-11s %5s %10s %12s\n", "one layer, width 768", "isa", "rows", "us",
              "us/row");
  for (const Isa isa : isas) {
    for (const auto& [sequences, tokens] : {std::pair(1, 1), std::pair(16, 1), std::pair(1, 512)}) {
      BenchmarkOthers(options, isa, sequences, tokens, pool);
    }
  }
  return 0;
}

}  // namespace
}  // namespace dreamstate::kernels

int main(int argc, char** argv) { return dreamstate::kernels::Main(argc, argv); }
