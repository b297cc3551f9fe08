// Clients of a server whose models change under them: what each call asked and was answered, so
// that it can be asked again of one version alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/end_to_end/session.h"

namespace dreamstate::benchmarks {

// One call. Everything in it follows from `kind`, `seed` and the model.
struct SoakCall {
  enum Kind { kDecode, kContinue, kScore };
  Kind kind = kDecode;
  uint64_t seed = 0;
  std::string text;     // prompt, target, or what the state read that `kContinue` begins from
  std::string version;  // "models/m/versions/7": that answered
  // What came: tokens of a decode, or nats.
  std::vector<int32_t> tokens;
  double nats = 0;
  double seconds_per_token = 0;  // of a decode, from its first token to its last
};

struct SoakLog {
  std::vector<SoakCall> calls;
  int64_t harvests = 0;
  std::vector<std::string> failures;  // what a call answered that should have answered well
};

// Makes the call, of a state at `source` for kContinue. False, and why in `failure`, when it fails.
bool MakeCall(testing::Session& session, const std::string& source, SoakCall* call,
              std::string* failure);

// Calls until `stop`: decodes without a state and from one, harvests and scores in turn. A state is
// made anew after `state_life`: states belong to backbones, and a server keeps two.
SoakLog RunSoakClient(const std::string& address, uint64_t client, double state_life_seconds,
                      const std::atomic<bool>& stop);

}  // namespace dreamstate::benchmarks
