// Puts a load of calls on something and takes down when each began, answered and ended.
//   closed loop   a number of callers, each of which calls again as soon as it has its answer: what
//                 the server can do at most
//   open loop     calls arrive at random times (Poisson) whatever the server does: what callers
//                 see. Times count from the arrival that was planned, so a server that cannot keep
//                 up shows it (no coordinated omission)
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace dreamstate::benchmarks {

// A kind of call and its share of all.
struct Share {
  std::string kind;
  double weight;  // > 0
};
// "decode=4,score=1"; INVALID_ARGUMENT naming what is wrong and the known kinds.
absl::StatusOr<std::vector<Share>> ParseMix(std::string_view text,
                                            const std::vector<std::string>& known);

struct LoadOptions {
  int callers = 8;                 // closed: that many at once; open: at most so many at once
  double arrivals_per_second = 0;  // 0 = closed loop
  absl::Duration duration = absl::Seconds(10);  // no call begins later
  int64_t max_calls = 0;                        // 0 = any number
  uint64_t seed = 1;                            // of arrivals and of which kind comes next
  std::vector<Share> mix;                       // not empty
};

// What one call did.
struct Outcome {
  int code = 0;                                        // google.rpc.Code
  absl::Duration first_output = absl::ZeroDuration();  // from its start; zero = none
  absl::Duration last_output = absl::ZeroDuration();
  int64_t output_tokens = 0;
  int64_t input_tokens = 0;
};

struct Sample {
  size_t kind;            // index into the mix
  absl::Duration waited;  // from its planned arrival to its start; zero in a closed loop
  absl::Duration took;    // from its start to its end
  Outcome outcome;
};

struct LoadResult {
  std::vector<Sample> samples;
  absl::Duration elapsed;  // from the first start to the last end
};

// `call` makes the call `number` (0, 1, …) of a kind and waits for its end; any number of threads
// call it at once.
using Call = std::function<Outcome(size_t kind, int64_t number)>;
LoadResult RunLoad(const LoadOptions& options, const Call& call);

}  // namespace dreamstate::benchmarks
