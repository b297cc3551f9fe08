// The zip archives that torch.save writes: stored entries (never compressed), zip64 for large ones.
// Archives are untrusted: entries are found through the central directory, and every offset, size
// and name is checked against the local headers before it is used. Nothing is copied.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dreamstate::tensors {

struct ZipEntry {
  std::string_view name;
  std::span<const std::byte> data;
};

// The entries of an archive, sorted by name; they point into `bytes`. INVALID_ARGUMENT naming
// `source` and entry for anything but stored entries, each name once, none over another. Checksums
// are not looked at: PyTorch can be told to write none.
absl::StatusOr<std::vector<ZipEntry>> ReadZip(const std::string& source,
                                              std::span<const std::byte> bytes);

// Null when there is none. `entries` are sorted by name.
const ZipEntry* FindZipEntry(std::span<const ZipEntry> entries, std::string_view name);

// The archive's bytes: entries stored, their data at multiples of 64 bytes.
std::string WriteZip(std::span<const ZipEntry> entries);

}  // namespace dreamstate::tensors
