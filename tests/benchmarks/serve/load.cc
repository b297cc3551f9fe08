#include "tests/benchmarks/serve/load.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/base/random.h"
#include "core/base/strings.h"

namespace dreamstate::benchmarks {
namespace {

// Streams of the random numbers: which kind, and when.
constexpr uint32_t kKindStream = 0;
constexpr uint32_t kArrivalStream = 1;

size_t PickKind(const std::vector<Share>& mix, double uniform) {
  double total = 0;
  for (const Share& share : mix) total += share.weight;
  double left = uniform * total;
  for (size_t i = 0; i + 1 < mix.size(); ++i) {
    left -= mix[i].weight;
    if (left < 0) return i;
  }
  return mix.size() - 1;
}

// Gives out the calls, one after another.
class Plan {
 public:
  Plan(const LoadOptions& options, absl::Time start)
      : options_(options), start_(start), arrival_(start) {}

  struct Next {
    size_t kind;
    int64_t number;
    absl::Time arrival;  // in the past in a closed loop
  };
  std::optional<Next> Take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool open = options_.arrivals_per_second > 0;
    if (open) {
      const double uniform = DecodeUniform(options_.seed, kArrivalStream, number_);
      arrival_ += absl::Seconds(-std::log1p(-uniform) / options_.arrivals_per_second);
    } else {
      arrival_ = absl::Now();
    }
    const bool enough = options_.max_calls > 0 && number_ >= options_.max_calls;
    if (enough || arrival_ - start_ >= options_.duration) return std::nullopt;
    const size_t kind = PickKind(options_.mix, DecodeUniform(options_.seed, kKindStream, number_));
    return Next{kind, number_++, arrival_};
  }

 private:
  const LoadOptions& options_;
  const absl::Time start_;
  std::mutex mutex_;
  absl::Time arrival_;
  int64_t number_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Share>> ParseMix(std::string_view text,
                                            const std::vector<std::string>& known) {
  std::vector<Share> mix;
  const std::vector<std::string> parts = absl::StrSplit(AbslView(text), ',');
  for (const std::string& part : parts) {
    const std::vector<std::string> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    double weight = 1;
    const bool number = sides.size() == 1 || absl::SimpleAtod(sides[1], &weight);
    if (std::find(known.begin(), known.end(), sides[0]) == known.end() || !number ||
        !(weight > 0) || !std::isfinite(weight)) {
      return absl::InvalidArgumentError(
          StrCat("mix: expected KIND=WEIGHT,… with a weight above 0 "
                 "and a kind of ",
                 absl::StrJoin(known, ", "), "; found \"", part, "\""));
    }
    mix.push_back({sides[0], weight});
  }
  return mix;
}

LoadResult RunLoad(const LoadOptions& options, const Call& call) {
  const absl::Time start = absl::Now();
  Plan plan(options, start);
  std::mutex mutex;
  LoadResult result;
  const auto work = [&] {
    std::vector<Sample> samples;
    while (const std::optional<Plan::Next> next = plan.Take()) {
      absl::SleepFor(next->arrival - absl::Now());
      const absl::Time begin = absl::Now();
      const bool open = options.arrivals_per_second > 0;
      Sample sample{next->kind, open ? begin - next->arrival : absl::ZeroDuration(), {}, {}};
      sample.outcome = call(next->kind, next->number);
      sample.took = absl::Now() - begin;
      samples.push_back(sample);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    result.samples.insert(result.samples.end(), samples.begin(), samples.end());
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < options.callers; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  result.elapsed = absl::Now() - start;
  return result;
}

}  // namespace dreamstate::benchmarks
