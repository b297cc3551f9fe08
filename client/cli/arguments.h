// Flags that several commands share, and values in the forms that people write.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dreamstate/v1/decode_service.pb.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace dreamstate::cli {

// Adds a command with its examples; flags of the commands above it may follow its name.
CLI::App* AddCommand(CLI::App& parent, const std::string& name, const std::string& description,
                     const std::string& examples);

// "7d", "1d12h", "90m", "1.5h", "250ms"; not negative, at most 100 years.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);
// An option that takes such a duration.
CLI::Option* AddDuration(CLI::App& command, const std::string& name, absl::Duration* value,
                         const std::string& description);

google::protobuf::Duration ToProto(absl::Duration duration);
// "2026-01-31 08:05:12" in the local time zone; "-" when unset.
std::string ShowTime(const google::protobuf::Timestamp& time);
// "834 K", "1.2 MiB": 1024 steps for bytes, 1000 for counts.
std::string ShowBytes(int64_t bytes);
std::string ShowCount(int64_t count);
// "1 state", "2 states".
std::string ShowNumber(int64_t count, absl::string_view noun);

// Refuses values that are not UTF-8, which a message's strings cannot carry.
extern const CLI::Validator kUtf8;

// "12 layers, width 64, 1 head of 64".
std::string ShowShape(int layers, int width, int heads, int head_size);

// What stands for the empty state where a state is named; so does naming none.
inline constexpr char kEmptyState[] = "empty";
inline bool IsEmptyState(const std::string& name) { return name.empty() || name == kEmptyState; }

// How the next token is chosen.
struct SamplingArguments {
  std::optional<float> temperature;
  int top_k = 0;
  std::optional<float> top_p;
  float min_p = 0;
  float presence = 0;
  float frequency = 0;
  std::optional<float> penalty_decay;
  std::optional<uint64_t> seed;
  std::vector<std::string> bias;  // ID=VALUE

  void AddTo(CLI::App& command);
  // A usage error when a bias is not ID=VALUE; ranges are the server's to judge.
  absl::StatusOr<v1::Sampling> Build() const;
};

}  // namespace dreamstate::cli
