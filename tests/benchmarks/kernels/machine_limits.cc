#include "tests/benchmarks/kernels/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <vector>

#include "kernels/runtime/aligned.h"
#include "tests/benchmarks/kernels/machine_limits_isa.h"

namespace dreamstate::kernels {
namespace {

constexpr double kSecondsPerLimit = 0.25;
constexpr int64_t kLine = 128;  // floats that a read loop takes at a time

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Keeps results alive that nobody reads.
std::atomic<float> sink;

// The least seconds that `run` took, of as many as fit in the time of a limit.
template <typename Run>
double Fastest(const Run& run) {
  run();
  const double end = Now() + kSecondsPerLimit;
  double fastest = 1e30;
  do {
    const double begin = Now();
    run();
    fastest = std::min(fastest, Now() - begin);
  } while (Now() < end);
  return fastest;
}

float ReadPlainly(const float* data, size_t count) {
  float sums[16] = {};
  for (size_t i = 0; i < count; i += 16) {
    for (size_t k = 0; k < 16; ++k) sums[k] += data[i + k];
  }
  return sums[0];
}

double ThreadProcessorNow() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double MeasurePeak(float (*function)(int64_t), int operations_per_instruction, ThreadPool& pool) {
  // A few hundred microseconds a piece, one piece a thread. Each is timed by its own thread's
  // processor time: on a busy machine the threads seldom all have a processor at the same moment,
  // and the limit is what they reach when they do.
  constexpr int64_t kSteps = 200'000;
  const int threads = pool.threads();
  std::vector<double> fastest(threads, 1e30);
  Fastest([&] {
    pool.ParallelFor(threads, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        const double start = ThreadProcessorNow();
        sink.store(function(kSteps), std::memory_order_relaxed);
        fastest[thread] = std::min(fastest[thread], ThreadProcessorNow() - start);
      }
    });
  });
  const double seconds = *std::min_element(fastest.begin(), fastest.end());
  return static_cast<double>(threads) * kSteps * kChains * operations_per_instruction / seconds;
}

}  // namespace

ReadProbe::ReadProbe(size_t bytes)
    : bytes_(std::max<size_t>(1, bytes / sizeof(float) / kLine) * kLine * sizeof(float)),
      memory_(MakeAligned<float>(bytes_ / sizeof(float))) {}

double ReadProbe::Seconds(ThreadPool& pool) const {
  const auto read = BestIsa() >= Isa::kAvx512 ? ReadAvx512
                    : BestIsa() >= Isa::kAvx2 ? ReadAvx2
                                              : ReadPlainly;
  const double start = Now();
  const auto lines = static_cast<int64_t>(bytes_ / sizeof(float) / kLine);
  pool.ParallelFor(lines, 64, [&](int64_t begin, int64_t end, int) {
    sink.store(read(memory_.get() + begin * kLine, (end - begin) * kLine),
               std::memory_order_relaxed);
  });
  return Now() - start;
}

double MeasureReadBandwidth(size_t bytes, ThreadPool& pool) {
  const ReadProbe probe(bytes);
  return static_cast<double>(probe.bytes()) / Fastest([&] { probe.Seconds(pool); });
}

double MeasureFloat32Peak(Isa isa, ThreadPool& pool) {
  if (isa == Isa::kReference || isa > BestIsa()) return 0.0;
  return isa == Isa::kAvx2 ? MeasurePeak(MultiplyAddAvx2, 2 * 8, pool)
                           : MeasurePeak(MultiplyAddAvx512, 2 * 16, pool);
}

double MeasureBfloat16Peak(ThreadPool& pool) {
  return BestIsa() < Isa::kAvx512Bf16 ? 0.0 : MeasurePeak(MultiplyAddBf16, 2 * 32, pool);
}

double MeasurePeakOf(WeightFormat format, Isa isa, ThreadPool& pool) {
  if (isa == Isa::kReference || isa > BestIsa()) return 0.0;
  switch (format) {
    case WeightFormat::kFloat32:
      break;
    case WeightFormat::kBfloat16:
      if (isa == Isa::kAmx) return MeasurePeak(MultiplyAddTilesBf16, 2 * 16 * 16 * 32, pool);
      if (isa >= Isa::kAvx512Bf16) return MeasureBfloat16Peak(pool);
      break;
    case WeightFormat::kInt8:
      if (isa == Isa::kAmx) return MeasurePeak(MultiplyAddTilesInt8, 2 * 16 * 16 * 64, pool);
      if (isa >= Isa::kAvx512Vnni) return MeasurePeak(MultiplyAddInt8, 2 * 64, pool);
      return isa == Isa::kAvx2 ? MeasurePeak(MultiplyAddPairsAvx2, 2 * 16, pool)
                               : MeasurePeak(MultiplyAddPairsAvx512, 2 * 32, pool);
  }
  return MeasureFloat32Peak(isa, pool);
}

const char* PeakName(WeightFormat format, Isa isa) {
  if (isa == Isa::kAmx && format != WeightFormat::kFloat32) {
    return format == WeightFormat::kInt8 ? "tdpbsud" : "tdpbf16ps";
  }
  if (format == WeightFormat::kInt8) return isa >= Isa::kAvx512Vnni ? "vpdpbusd" : "vpmaddwd";
  return format == WeightFormat::kBfloat16 && isa >= Isa::kAvx512Bf16 ? "vdpbf16ps" : "fp32 fma";
}

}  // namespace dreamstate::kernels
