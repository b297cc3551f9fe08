// SHA-256 and CRC-32C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/base/file.h"
#include "core/base/stopping.h"

namespace dreamstate {

// Incremental SHA-256 (OpenSSL). Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::span<const std::byte> bytes);
  void Update(std::string_view text);
  // 64 lower-case hexadecimal digits; call once.
  std::string HexDigest();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Hex(std::string_view text);
// Of a whole file. CANCELLED when it is to stop, DATA_LOSS when the file was cut meanwhile.
absl::StatusOr<std::string> Sha256OfFile(const MappedFile& file, const Stopping& stopping = {});

}  // namespace dreamstate
