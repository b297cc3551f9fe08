// Configs of runs as tables: a key's name, what it accepts, what it is for, and where its value is.
// The tables make the parser, the text for people and the file that says all values.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/training/loop_config.h"
#include "nlohmann/json.hpp"

namespace dreamstate::training {

// One key of a config.
struct ConfigKey {
  std::string name;
  std::string accepts;                                      // "a number in [0, 1]"
  std::string help;                                         // what it is for
  std::function<bool(const nlohmann::ordered_json&)> read;  // false: not what it accepts
  std::function<nlohmann::ordered_json()> write;
};

// The keys of a config by section; "" is the top. The values that they point to outlive them.
using ConfigKeys = std::vector<std::pair<std::string, std::vector<ConfigKey>>>;

ConfigKey NumberKey(std::string name, double* value, double least, double most, std::string help);
ConfigKey WholeKey(std::string name, int* value, int64_t least, int64_t most, std::string help);
ConfigKey WholeKey(std::string name, int64_t* value, int64_t least, int64_t most, std::string help);
ConfigKey SeedKey(std::string name, uint64_t* value, std::string help);
ConfigKey FlagKey(std::string name, bool* value, std::string help);
// No choices: any text.
ConfigKey TextKey(std::string name, std::string* value, std::vector<std::string> choices,
                  std::string help);

inline constexpr int64_t kManySteps = int64_t{1} << 40;
inline constexpr double kLargeNumber = 1e12;

// The sections optimiser (its schedule), checkpoint, validation and publish, and the keys of the
// top that every run has.
std::vector<ConfigKey> LoopKeys(LoopConfig* config);
std::vector<ConfigKey> ScheduleKeys(Schedule* schedule);
std::vector<ConfigKey> OptimiserKeys(OptimiserOptions* optimiser);
std::vector<ConfigKey> CheckpointKeys(CheckpointConfig* checkpoint);
std::vector<ConfigKey> PublishKeys(PublishConfig* publish);
// Of several lists one.
std::vector<ConfigKey> Joined(std::vector<std::vector<ConfigKey>> lists);

// Sets what the text says. INVALID_ARGUMENT naming `source`, the key, what was expected and found;
// an unknown key comes with the nearest known one.
absl::Status ReadConfig(const ConfigKeys& keys, std::string_view source, std::string_view text);
// All keys with their values, as ReadConfig reads them.
std::string WriteConfig(const ConfigKeys& keys);
// A table for people: key, value, what it is for, and below what it accepts.
std::string DescribeConfig(const ConfigKeys& keys);
// INVALID_ARGUMENT naming the first key below the JSON pointers `keys` ("/model", "/batch/rows")
// whose value is not the same in both texts of WriteConfig; those of `but` may differ.
absl::Status CheckSameConfig(const std::string& begun, const std::string& now,
                             const std::vector<std::string>& keys,
                             const std::vector<std::string>& but = {});

}  // namespace dreamstate::training
