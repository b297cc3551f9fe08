#include "core/base/memory.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/strings.h"

namespace dreamstate {
namespace {

std::optional<int64_t> ToNumber(std::string_view text) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(AbslView(text), &number) || number < 0) return std::nullopt;
  return number;
}

// The first number behind `key` at the beginning of a line.
std::optional<int64_t> NumberOf(std::string_view key, const std::string& text) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() >= 2 && StdView(words[0]) == key) return ToNumber(StdView(words[1]));
  }
  return std::nullopt;
}

// Nothing for a group without a limit.
std::optional<int64_t> LeftIn(const MemoryFiles::Group& group) {
  const std::optional<int64_t> limit = ToNumber(group.limit);
  const std::optional<int64_t> usage = ToNumber(group.usage);
  if (!limit.has_value() || !usage.has_value()) return std::nullopt;
  // File pages are given back when memory is asked for: those in use lately too, such as a model's
  // file that was just read.
  int64_t cached = 0;
  for (const std::string_view list : {"inactive_file", "active_file"}) {
    std::optional<int64_t> bytes = NumberOf(StrCat("total_", list), group.stat);
    if (!bytes.has_value()) bytes = NumberOf(list, group.stat);
    cached += std::min(bytes.value_or(0), *usage - cached);
  }
  const int64_t used = std::max<int64_t>(0, *usage - cached);
  return std::max<int64_t>(0, *limit - used);
}

std::string Contents(const std::string& path) {
  constexpr size_t kMostBytes = 1 << 20;
  return ReadFile(path, kMostBytes).value_or("");
}

// Every existing directory from `root` + `path` up to `root`.
void AddGroups(const std::string& root, std::string path, std::string_view limit,
               std::string_view usage, std::vector<MemoryFiles::Group>* groups) {
  for (;;) {
    const std::string directory = StrCat(root, path, "/");
    MemoryFiles::Group group = {.limit = Contents(StrCat(directory, limit)),
                                .usage = Contents(StrCat(directory, usage)),
                                .stat = Contents(StrCat(directory, "memory.stat"))};
    if (!group.limit.empty()) groups->push_back(std::move(group));
    if (path.empty()) return;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace

std::optional<int64_t> AvailableMemoryBytes(const MemoryFiles& files) {
  std::optional<int64_t> least;
  const auto take = [&least](std::optional<int64_t> bytes) {
    if (bytes.has_value()) least = std::min(least.value_or(*bytes), *bytes);
  };
  if (const std::optional<int64_t> kilobytes = NumberOf("MemAvailable:", files.meminfo)) {
    constexpr int64_t kMostKilobytes = int64_t{1} << 50;
    take(std::min(*kilobytes, kMostKilobytes) * 1024);
  }
  for (const MemoryFiles::Group& group : files.groups) take(LeftIn(group));
  return least;
}

MemoryFiles ReadMemoryFiles() {
  MemoryFiles files;
  files.meminfo = Contents("/proc/meminfo");
  // "0::/path" of version 2, "4:memory:/path" of version 1. Inside a container the path may be the
  // host's, which is not there: then what is above it counts.
  for (const absl::string_view line : absl::StrSplit(Contents("/proc/self/cgroup"), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::string path(absl::StripSuffix(parts[2], "/"));
    if (parts[1].empty()) {
      AddGroups("/sys/fs/cgroup", path, "memory.max", "memory.current", &files.groups);
    } else if (parts[1] == "memory") {
      AddGroups("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes",
                &files.groups);
    }
  }
  return files;
}

std::string ShowBytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"bytes", "KB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && value >= 999.5) {
    value /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f %s", decimals, value, kUnits[unit]);
}

}  // namespace dreamstate
