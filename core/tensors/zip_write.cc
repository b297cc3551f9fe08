#include <cstdint>

#include "core/tensors/zip_archive.h"
#include "core/tensors/zip_format.h"

namespace dreamstate::tensors {
namespace {

constexpr size_t kAlignment = 64;
constexpr uint16_t kVersion = 45;             // zip64
constexpr uint16_t kUtf8Names = 1 << 11;      // flag
constexpr uint16_t kPaddingExtraId = 0x4246;  // "FB", as PyTorch pads
constexpr uint16_t kNewYear1980 =
    (1 << 5) | 1;  // every entry's date: the same input, the same bytes

template <typename T>
void Put(std::string* out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out->push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
  }
}

uint32_t Or64(uint64_t value) {
  return value >= kZipIn64 ? kZipIn64 : static_cast<uint32_t>(value);
}

// What local header and directory have in common, from the version needed to the name's length.
void PutCommon(std::string* out, const ZipEntry& entry, uint32_t crc) {
  Put<uint16_t>(out, kVersion);
  Put<uint16_t>(out, kUtf8Names);
  Put<uint16_t>(out, 0);  // stored
  Put<uint16_t>(out, 0);  // time
  Put<uint16_t>(out, kNewYear1980);
  Put<uint32_t>(out, crc);
  Put<uint32_t>(out, Or64(entry.data.size()));
  Put<uint32_t>(out, Or64(entry.data.size()));
  Put<uint16_t>(out, static_cast<uint16_t>(entry.name.size()));
}

// Sizes, and the header's place for the directory, that do not fit 32 bits.
std::string Zip64Extra(const ZipEntry& entry, uint64_t header) {
  std::string fields;
  if (entry.data.size() >= kZipIn64) {
    Put<uint64_t>(&fields, entry.data.size());
    Put<uint64_t>(&fields, entry.data.size());
  }
  if (header >= kZipIn64) Put<uint64_t>(&fields, header);
  if (fields.empty()) return fields;
  std::string extra;
  Put<uint16_t>(&extra, kZip64ExtraId);
  Put<uint16_t>(&extra, static_cast<uint16_t>(fields.size()));
  return extra + fields;
}

void PutLocal(std::string* out, const ZipEntry& entry, uint32_t crc) {
  Put(out, kZipLocalSignature);
  PutCommon(out, entry, crc);
  std::string extra = Zip64Extra(entry, 0);
  constexpr size_t kExtraHead = 4;
  const size_t unpadded = out->size() + 2 + entry.name.size() + extra.size() + kExtraHead;
  const size_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;
  Put<uint16_t>(&extra, kPaddingExtraId);
  Put<uint16_t>(&extra, static_cast<uint16_t>(padding));
  extra.append(padding, 'Z');
  Put<uint16_t>(out, static_cast<uint16_t>(extra.size()));
  out->append(entry.name);
  out->append(extra);
}

void PutCentral(std::string* out, const ZipEntry& entry, uint32_t crc, uint64_t header) {
  Put(out, kZipCentralSignature);
  Put<uint16_t>(out, kVersion);
  PutCommon(out, entry, crc);
  const std::string extra = Zip64Extra(entry, header);
  Put<uint16_t>(out, static_cast<uint16_t>(extra.size()));
  Put<uint16_t>(out, 0);  // comment
  Put<uint16_t>(out, 0);  // disk
  Put<uint16_t>(out, 0);  // attributes of the file
  Put<uint32_t>(out, 0);  // and of the system
  Put<uint32_t>(out, Or64(header));
  out->append(entry.name);
  out->append(extra);
}

void PutEnd(std::string* out, size_t entries, uint64_t directory) {
  const uint64_t end = out->size();
  const uint64_t bytes = end - directory;
  Put(out, kZip64EndSignature);
  Put<uint64_t>(out, kZip64EndBytes - 12);  // what follows
  Put<uint16_t>(out, kVersion);
  Put<uint16_t>(out, kVersion);
  Put<uint32_t>(out, 0);
  Put<uint32_t>(out, 0);
  Put<uint64_t>(out, entries);
  Put<uint64_t>(out, entries);
  Put<uint64_t>(out, bytes);
  Put<uint64_t>(out, directory);
  Put(out, kZip64LocatorSignature);
  Put<uint32_t>(out, 0);
  Put<uint64_t>(out, end);
  Put<uint32_t>(out, 1);
  Put(out, kZipEndSignature);
  Put<uint16_t>(out, 0);
  Put<uint16_t>(out, 0);
  const uint16_t shown = entries >= kZipIn64Short ? kZipIn64Short : static_cast<uint16_t>(entries);
  Put<uint16_t>(out, shown);
  Put<uint16_t>(out, shown);
  Put<uint32_t>(out, Or64(bytes));
  Put<uint32_t>(out, Or64(directory));
  Put<uint16_t>(out, 0);
}

}  // namespace

std::string WriteZip(std::span<const ZipEntry> entries) {
  constexpr size_t kMostHeadBytes = 256;
  size_t bytes = 0;
  for (const ZipEntry& entry : entries) {
    bytes += entry.data.size() + 2 * entry.name.size() + kMostHeadBytes;
  }
  std::string out, directory;
  out.reserve(bytes);
  for (const ZipEntry& entry : entries) {
    const uint32_t crc = ZipChecksum(entry.data);
    PutCentral(&directory, entry, crc, out.size());
    PutLocal(&out, entry, crc);
    out.append(reinterpret_cast<const char*>(entry.data.data()), entry.data.size());
  }
  const size_t begin = out.size();
  out += directory;
  PutEnd(&out, entries.size(), begin);
  return out;
}

}  // namespace dreamstate::tensors
