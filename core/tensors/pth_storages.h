// Where the two formats of .pth files keep their pickle and the storages that it names.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "core/tensors/pickle.h"

namespace dreamstate::tensors {

inline constexpr std::string_view kZipMagic = "PK\x03\x04";
// The first of the five pickles of a file from before PyTorch 1.6, a number: whole, with STOP.
inline constexpr std::string_view kLegacyPthMagic =
    "\x80\x02\x8a\x0al\xfc\x9c"
    "F\xf9 j\xa8P\x19.";

struct PthStorages {
  std::shared_ptr<const void> memory;  // keeps `data` alive
  size_t file_bytes;
  std::vector<std::span<const std::byte>> data;  // one for each of the pickle's storages
};

// Each fills in the pickle and the data of its storages, as many bytes as the pickle declares;
// INVALID_ARGUMENT naming `source` and entry.
absl::Status ReadZipPth(const std::string& source, std::span<const std::byte> bytes, Pickle* pickle,
                        PthStorages* storages);
absl::Status ReadLegacyPth(const std::string& source, std::span<const std::byte> bytes,
                           Pickle* pickle, PthStorages* storages);

}  // namespace dreamstate::tensors
