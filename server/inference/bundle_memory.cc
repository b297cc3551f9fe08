#include "server/inference/bundle_memory.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

constexpr size_t kMaxStatusFileBytes = 1 << 20;
// Buffers of a forward as wide as the model (rwkv::Workspace), rounded up.
constexpr int64_t kWideBuffers = 24;

std::optional<int64_t> Number(std::string_view text) {
  int64_t number = 0;
  if (absl::SimpleAtoi(AbslView(text), &number)) return number;  // spaces around it are allowed
  return std::nullopt;
}

std::optional<int64_t> NumberIn(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxStatusFileBytes);
  return text.ok() ? Number(*text) : std::nullopt;
}

// The number after `key` at a line's beginning.
std::optional<int64_t> Field(std::string_view text, std::string_view key) {
  for (const absl::string_view line : absl::StrSplit(AbslView(text), '\n')) {
    const std::string_view found = StdView(line);
    if (!found.starts_with(key)) continue;
    const std::string_view rest = found.substr(key.size());
    const size_t begin = rest.find_first_not_of(' ');
    if (begin == std::string_view::npos) return std::nullopt;
    return Number(rest.substr(begin, rest.find(' ', begin) - begin));
  }
  return std::nullopt;
}

std::optional<int64_t> SystemAvailable(const std::string& root) {
  const absl::StatusOr<std::string> text = ReadFile(root + "/proc/meminfo", kMaxStatusFileBytes);
  if (!text.ok()) return std::nullopt;
  const std::optional<int64_t> kibibytes = Field(*text, "MemAvailable:");
  return kibibytes ? std::optional(*kibibytes * 1024) : std::nullopt;
}

// What one group leaves of its limit. Cached files count as used and are given back when needed.
std::optional<int64_t> GroupAvailable(const std::string& directory, const char* limit_file,
                                      const char* usage_file, const char* cache_prefix) {
  const std::optional<int64_t> limit = NumberIn(StrCat(directory, "/", limit_file));
  const std::optional<int64_t> usage = NumberIn(StrCat(directory, "/", usage_file));
  if (!limit || !usage) return std::nullopt;  // "max": no limit
  int64_t cached = 0;
  const absl::StatusOr<std::string> stat =
      ReadFile(directory + "/memory.stat", kMaxStatusFileBytes);
  if (stat.ok()) {
    for (const char* kind : {"inactive_file ", "active_file "}) {
      cached += Field(*stat, StrCat(cache_prefix, kind)).value_or(0);
    }
  }
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cached));
}

// Of the group of each line of /proc/self/cgroup ("0::/a/b", "4:memory:/a/b") and those above it.
std::vector<int64_t> GroupsAvailable(const std::string& root) {
  std::vector<int64_t> found;
  const absl::StatusOr<std::string> text =
      ReadFile(root + "/proc/self/cgroup", kMaxStatusFileBytes);
  if (!text.ok()) return found;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool unified = parts[0] == "0" && parts[1].empty();
    if (!unified && parts[1] != "memory") continue;
    const std::string top = root + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    std::string group = parts[2] == "/" ? "" : parts[2];
    while (true) {
      const auto available = unified
                                 ? GroupAvailable(top + group, "memory.max", "memory.current", "")
                                 : GroupAvailable(top + group, "memory.limit_in_bytes",
                                                  "memory.usage_in_bytes", "total_");
      if (available) found.push_back(*available);
      if (group.empty()) break;
      group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
    }
  }
  return found;
}

}  // namespace

MemoryNeed EstimateMemory(const rwkv::Config& config, int64_t parameters, rwkv::WeightFormat format,
                          const SchedulerOptions& options) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t width = config.width, vocab = config.vocab, ffn = config.ffn_width;
  const int64_t ranks =
      int64_t{config.rank_decay} + config.rank_iclr + config.rank_value + config.rank_gate;
  MemoryNeed need;
  // Every narrower format may keep some matrices in bf16.
  need.weights = parameters * (format == rwkv::WeightFormat::kFloat32 ? 4 : 2);
  need.packing = kFloat * std::max({vocab * width, ffn * width, width * width});
  need.states = options.slots * (config.state_bytes() + kFloat * (vocab + width));
  need.workspace = kFloat * (options.max_step_tokens * (kWideBuffers * width + ffn + ranks) +
                             options.slots * (vocab + width));
  return need;
}

std::optional<int64_t> AvailableMemory(const std::string& root) {
  std::optional<int64_t> available = SystemAvailable(root);
  for (const int64_t group : GroupsAvailable(root)) {
    available = std::min(available.value_or(group), group);
  }
  return available;
}

absl::Status CheckMemory(const MemoryNeed& need, std::optional<int64_t> available_bytes) {
  if (!available_bytes || need.total() + kMemoryReserveBytes <= *available_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(StrCat(
      "not enough memory: needs ", need.total(), " bytes (weights ", need.weights,
      ", packing them ", need.packing, ", states ", need.states, ", workspace ", need.workspace,
      ") and ", kMemoryReserveBytes, " to spare; available are ", *available_bytes));
}

}  // namespace dreamstate::server
