#include "core/training/token_file.h"

#include <bit>
#include <cstring>
#include <string_view>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr uint8_t kUint16 = 8;
constexpr size_t kHeader = 9 + 8 + 1 + 8 + 8;

template <typename T>
T Read(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}
template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace

absl::StatusOr<TokenFile> OpenTokenFile(const std::string& stem) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> bin, MappedFile::Open(stem + ".bin"));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> idx, MappedFile::Open(stem + ".idx"));
  const auto wrong = [&](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(idx->path(), ": ", what));
  };
  const std::span<const std::byte> bytes = idx->bytes();
  if (bytes.size() < kHeader || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return wrong("expected an index that begins with MMIDIDX, found none");
  }
  const auto version = Read<uint64_t>(bytes, 9);
  const auto type = Read<uint8_t>(bytes, 17);
  const auto documents = Read<uint64_t>(bytes, 18);
  const auto bounds = Read<uint64_t>(bytes, 26);
  if (version != 1) return wrong(StrCat("expected version 1, found ", version));
  if (type != kUint16) {
    return wrong(StrCat("expected tokens of type 8 (uint16), found type ", int{type}));
  }
  // A document takes 20 bytes and one bound: this keeps the sizes from overflowing, too.
  if (documents > bytes.size() / 20 || bounds != documents + 1 ||
      bytes.size() != kHeader + documents * 12 + bounds * 8) {
    return wrong(StrCat("expected the size that ", documents, " documents give, found ",
                        bytes.size(), " bytes"));
  }
  if (bin->bytes().size() % sizeof(uint16_t) != 0) {
    return absl::InvalidArgumentError(StrCat(bin->path(), ": expected an even number of bytes"));
  }
  TokenFile file;
  file.tokens = {reinterpret_cast<const uint16_t*>(bin->bytes().data()),
                 bin->bytes().size() / sizeof(uint16_t)};
  uint64_t begin = 0;
  for (uint64_t i = 0; i < documents; ++i) {
    const auto size = Read<int32_t>(bytes, kHeader + i * 4);
    const auto pointer = Read<int64_t>(bytes, kHeader + documents * 4 + i * 8);
    if (size < 1 || begin + size > file.tokens.size() ||
        pointer != static_cast<int64_t>(begin * sizeof(uint16_t))) {
      return wrong(StrCat("document ", i, ": expected a piece of ", file.tokens.size(),
                          " tokens that follows the one before, found ", size, " tokens at byte ",
                          pointer));
    }
    file.sizes.push_back(size);
    begin += size;
  }
  if (begin != file.tokens.size()) {
    return wrong(
        StrCat("expected documents of ", file.tokens.size(), " tokens together, found ", begin));
  }
  struct Memory {
    std::shared_ptr<const MappedFile> bin;
  };
  file.memory = std::make_shared<Memory>(Memory{bin});
  return file;
}

absl::Status WriteTokenFile(const std::string& stem, std::span<const uint16_t> tokens,
                            std::span<const int32_t> sizes) {
  std::string index(kMagic);
  Append<uint64_t>(&index, 1);
  Append<uint8_t>(&index, kUint16);
  Append<uint64_t>(&index, sizes.size());
  Append<uint64_t>(&index, sizes.size() + 1);
  for (const int32_t size : sizes) Append<int32_t>(&index, size);
  int64_t pointer = 0;
  for (const int32_t size : sizes) {
    Append<int64_t>(&index, pointer);
    pointer += int64_t{size} * static_cast<int64_t>(sizeof(uint16_t));
  }
  for (size_t i = 0; i <= sizes.size(); ++i) Append<int64_t>(&index, static_cast<int64_t>(i));
  const std::span<const std::byte> pieces[] = {std::as_bytes(tokens)};
  DS_RETURN_IF_ERROR(WriteFileAtomically(stem + ".bin", pieces));
  return WriteFileAtomically(stem + ".idx", index);
}

}  // namespace dreamstate::training
