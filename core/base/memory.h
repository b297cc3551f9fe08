// How much memory this process may still take: so that a model larger than the machine is refused
// before the machine thrashes or the kernel kills.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dreamstate {

// The kernel's files that say so, as text; empty where there is none.
struct MemoryFiles {
  std::string meminfo;  // /proc/meminfo
  // A control group that the process is in, or one above it.
  struct Group {
    std::string limit;  // memory.max, or memory.limit_in_bytes of version 1: bytes or "max"
    std::string usage;  // memory.current, memory.usage_in_bytes
    std::string stat;   // memory.stat
  };
  std::vector<Group> groups;
};

// The least of MemAvailable and what every group has left, where cached file pages count as left;
// nothing when the files do not say. Never negative.
std::optional<int64_t> AvailableMemoryBytes(const MemoryFiles& files);

// The files of this process, as they are now.
MemoryFiles ReadMemoryFiles();

// "14.4 GB", "382 MB": decimal, three digits.
std::string ShowBytes(int64_t bytes);

}  // namespace dreamstate
