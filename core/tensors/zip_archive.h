// The zip archives that torch.save writes: stored entries (never compressed), zip64 for large ones.
// Archives are untrusted: entries are found through the central directory, and every offset, size
// and name is checked against the local headers before it is used. Nothing is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dreamstate::tensors {

struct ZipEntry {
  std::string_view name;
  std::span<const std::byte> data;
  // CRC-32 of `data` as the directory declares it. 0: none was written, as PyTorch can be told to.
  uint32_t checksum = 0;
};

// The entries of an archive, sorted by name; they point into `bytes`. INVALID_ARGUMENT naming
// `source` and entry for anything but stored entries, each name once, none over another. Reads no
// entry's data: who takes it calls CheckZipData.
absl::StatusOr<std::vector<ZipEntry>> ReadZip(const std::string& source,
                                              std::span<const std::byte> bytes);

// Null when there is none. `entries` are sorted by name.
const ZipEntry* FindZipEntry(std::span<const ZipEntry> entries, std::string_view name);

// INVALID_ARGUMENT naming `source` and entry when its data does not have its checksum. Reads all of
// the data, at about a gigabyte a second.
absl::Status CheckZipData(const std::string& source, const ZipEntry& entry);

// CRC-32 as zip archives use it.
uint32_t ZipChecksum(std::span<const std::byte> data);

// The archive's bytes: entries stored, their data at multiples of 64 bytes, with the checksum that
// their data has.
std::string WriteZip(std::span<const ZipEntry> entries);

}  // namespace dreamstate::tensors
