#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/zip_archive.h"
#include "core/tensors/zip_format.h"

namespace dreamstate::tensors {
namespace {

// Little-endian unsigned integer of sizeof(T) bytes; the caller has checked that they are there.
template <typename T>
T Load(std::span<const std::byte> bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(bytes[at + i]) << (8 * i);
  return static_cast<T>(value);
}

// An entry as the central directory declares it, unchecked.
struct Declared {
  std::string_view name;
  uint64_t stored_bytes, bytes, header;
  uint32_t checksum;
};

class Reader {
 public:
  Reader(const std::string& source, std::span<const std::byte> bytes)
      : source_(source), bytes_(bytes) {}

  absl::StatusOr<std::vector<ZipEntry>> Read();

 private:
  absl::Status Refuse(std::string_view subject, std::string_view problem) const {
    return absl::InvalidArgumentError(StrCat(
        subject.empty() ? "" : StrCat(absl::CHexEscape(AbslView(subject.substr(0, 128))), ": "),
        problem, " (", source_, ")"));
  }

  absl::Status FindDirectory();
  absl::StatusOr<size_t> FindEnd() const;
  absl::StatusOr<Declared> ReadCentral(size_t* at) const;
  absl::Status ReadZip64Extra(std::span<const std::byte> extra, Declared* entry) const;
  // The entry's data; `end` is where it ends in the file.
  absl::StatusOr<ZipEntry> Locate(const Declared& declared, size_t* end) const;

  const std::string& source_;
  std::span<const std::byte> bytes_;
  // The central directory: [begin, begin + size) of the file.
  size_t directory_ = 0, directory_bytes_ = 0;
  uint64_t entries_ = 0;
};

// The end record is the last thing in the file but for a comment of at most 65535 bytes.
absl::StatusOr<size_t> Reader::FindEnd() const {
  constexpr size_t kMaxComment = 0xffff;
  if (bytes_.size() >= kZipEndBytes) {
    const size_t last = bytes_.size() - kZipEndBytes;
    for (size_t comment = 0; comment <= std::min(last, kMaxComment); ++comment) {
      const size_t at = last - comment;
      if (Load<uint32_t>(bytes_, at) == kZipEndSignature &&
          Load<uint16_t>(bytes_, at + 20) == comment) {
        return at;
      }
    }
  }
  return Refuse("", StrCat("expected a zip archive, found ", bytes_.size(),
                           " bytes without its end record (truncated?)"));
}

absl::Status Reader::FindDirectory() {
  DS_ASSIGN_OR_RETURN(const size_t end, FindEnd());
  uint64_t disk = Load<uint16_t>(bytes_, end + 4);
  uint64_t entries_here = Load<uint16_t>(bytes_, end + 8);
  entries_ = Load<uint16_t>(bytes_, end + 10);
  uint64_t size = Load<uint32_t>(bytes_, end + 12);
  uint64_t begin = Load<uint32_t>(bytes_, end + 16);
  size_t limit = end;
  if (end >= kZip64LocatorBytes + kZip64EndBytes &&
      Load<uint32_t>(bytes_, end - kZip64LocatorBytes) == kZip64LocatorSignature) {
    const uint64_t at = Load<uint64_t>(bytes_, end - kZip64LocatorBytes + 8);
    if (at > end - kZip64LocatorBytes - kZip64EndBytes ||
        Load<uint32_t>(bytes_, at) != kZip64EndSignature) {
      return Refuse("", StrCat("expected the zip64 end record, found none at byte ", at));
    }
    disk = Load<uint32_t>(bytes_, at + 16);
    entries_here = Load<uint64_t>(bytes_, at + 24);
    entries_ = Load<uint64_t>(bytes_, at + 32);
    size = Load<uint64_t>(bytes_, at + 40);
    begin = Load<uint64_t>(bytes_, at + 48);
    limit = at;
  }
  if (disk != 0 || entries_here != entries_) {
    return Refuse("", "expected a zip archive in one part, found one of several");
  }
  if (begin > limit || size > limit - begin) {
    return Refuse("", StrCat("expected the zip directory within ", limit, " bytes, found ", size,
                             " bytes at ", begin));
  }
  if (entries_ > size / kZipCentralBytes) {
    return Refuse("", StrCat("expected at most ", size / kZipCentralBytes,
                             " entries in a zip directory of ", size, " bytes, found ", entries_));
  }
  directory_ = begin;
  directory_bytes_ = size;
  return absl::OkStatus();
}

absl::StatusOr<Declared> Reader::ReadCentral(size_t* at) const {
  const std::span<const std::byte> rest = bytes_.subspan(*at, directory_ + directory_bytes_ - *at);
  if (rest.size() < kZipCentralBytes || Load<uint32_t>(rest, 0) != kZipCentralSignature) {
    return Refuse("", StrCat("expected an entry of the zip directory at byte ", *at,
                             ", found something else"));
  }
  const size_t name_bytes = Load<uint16_t>(rest, 28);
  const size_t extra_bytes = Load<uint16_t>(rest, 30);
  const size_t all = kZipCentralBytes + name_bytes + extra_bytes + Load<uint16_t>(rest, 32);
  if (all > rest.size()) {
    return Refuse("", StrCat("expected an entry of ", all, " bytes in the zip directory, found ",
                             rest.size()));
  }
  Declared entry = {
      .name = {reinterpret_cast<const char*>(rest.data()) + kZipCentralBytes, name_bytes},
      .stored_bytes = Load<uint32_t>(rest, 20),
      .bytes = Load<uint32_t>(rest, 24),
      .header = Load<uint32_t>(rest, 42),
      .checksum = Load<uint32_t>(rest, 16)};
  constexpr uint16_t kEncrypted = 1;
  if ((Load<uint16_t>(rest, 8) & kEncrypted) != 0) {
    return Refuse(entry.name, "expected a plain entry, found an encrypted one");
  }
  if (const uint16_t method = Load<uint16_t>(rest, 10); method != 0) {
    return Refuse(entry.name, StrCat("expected a stored entry, found compression method ", method));
  }
  DS_RETURN_IF_ERROR(
      ReadZip64Extra(rest.subspan(kZipCentralBytes + name_bytes, extra_bytes), &entry));
  *at += all;
  return entry;
}

// Fills in the fields that did not fit 32 bits, in their fixed order.
absl::Status Reader::ReadZip64Extra(std::span<const std::byte> extra, Declared* entry) const {
  std::optional<std::span<const std::byte>> zip64;
  while (extra.size() >= 4) {
    const size_t bytes = Load<uint16_t>(extra, 2);
    if (bytes > extra.size() - 4) break;
    if (Load<uint16_t>(extra, 0) == kZip64ExtraId) zip64 = extra.subspan(4, bytes);
    extra = extra.subspan(4 + bytes);
  }
  for (uint64_t* field : {&entry->bytes, &entry->stored_bytes, &entry->header}) {
    if (*field != kZipIn64) continue;
    if (!zip64.has_value() || zip64->size() < sizeof(uint64_t)) {
      return Refuse(entry->name, "expected zip64 sizes, found none");
    }
    *field = Load<uint64_t>(*zip64, 0);
    zip64 = zip64->subspan(sizeof(uint64_t));
  }
  return absl::OkStatus();
}

absl::StatusOr<ZipEntry> Reader::Locate(const Declared& declared, size_t* end) const {
  if (declared.stored_bytes != declared.bytes) {
    return Refuse(declared.name, StrCat("expected ", declared.bytes, " stored bytes, found ",
                                        declared.stored_bytes));
  }
  if (declared.header > directory_ || directory_ - declared.header < kZipLocalBytes) {
    return Refuse(declared.name, StrCat("expected its header before the zip directory at ",
                                        directory_, ", found ", declared.header));
  }
  const std::span<const std::byte> local =
      bytes_.subspan(declared.header, directory_ - declared.header);
  if (Load<uint32_t>(local, 0) != kZipLocalSignature || Load<uint16_t>(local, 8) != 0) {
    return Refuse(declared.name, StrCat("expected the header of a stored entry at byte ",
                                        declared.header, ", found something else"));
  }
  const size_t name_bytes = Load<uint16_t>(local, 26);
  const size_t head = kZipLocalBytes + name_bytes + Load<uint16_t>(local, 28);
  if (head > local.size() || declared.bytes > local.size() - head) {
    return Refuse(declared.name,
                  StrCat("expected ", declared.bytes, " bytes before the zip directory at ",
                         directory_, ", found fewer (truncated?)"));
  }
  const std::string_view name(reinterpret_cast<const char*>(local.data()) + kZipLocalBytes,
                              name_bytes);
  if (name != declared.name) {
    return Refuse(declared.name, "expected the same name in its header, found another");
  }
  *end = declared.header + head + declared.bytes;
  return ZipEntry{.name = declared.name,
                  .data = local.subspan(head, declared.bytes),
                  .checksum = declared.checksum};
}

absl::StatusOr<std::vector<ZipEntry>> Reader::Read() {
  DS_RETURN_IF_ERROR(FindDirectory());
  std::vector<ZipEntry> entries;
  entries.reserve(entries_);
  struct Range {
    size_t begin, end;
    std::string_view name;
  };
  std::vector<Range> ranges;
  ranges.reserve(entries_);
  size_t at = directory_;
  for (uint64_t i = 0; i < entries_; ++i) {
    DS_ASSIGN_OR_RETURN(const Declared declared, ReadCentral(&at));
    size_t end = 0;
    DS_ASSIGN_OR_RETURN(const ZipEntry entry, Locate(declared, &end));
    entries.push_back(entry);
    ranges.push_back({static_cast<size_t>(declared.header), end, declared.name});
  }
  if (at != directory_ + directory_bytes_) {
    return Refuse("", StrCat("expected ", entries_, " entries in the zip directory, found more"));
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin < ranges[i - 1].end) {
      return Refuse(ranges[i].name, StrCat("expected to begin at byte ", ranges[i - 1].end,
                                           " or later, found ", ranges[i].begin, " (overlap)"));
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(entries.begin(), entries.end(),
                         [](const ZipEntry& a, const ZipEntry& b) { return a.name == b.name; });
  if (twice != entries.end()) return Refuse(twice->name, "expected once, found twice");
  return entries;
}

}  // namespace

absl::StatusOr<std::vector<ZipEntry>> ReadZip(const std::string& source,
                                              std::span<const std::byte> bytes) {
  return Reader(source, bytes).Read();
}

uint32_t ZipChecksum(std::span<const std::byte> data) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(data.data()), data.size()));
}

absl::Status CheckZipData(const std::string& source, const ZipEntry& entry) {
  if (entry.checksum == 0) return absl::OkStatus();
  const uint32_t found = ZipChecksum(entry.data);
  if (found == entry.checksum) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(absl::CHexEscape(AbslView(entry.name.substr(0, 128))), ": expected CRC-32 ",
             absl::StrFormat("%08x", entry.checksum), ", found ", absl::StrFormat("%08x", found),
             ": the file is damaged (", source, ")"));
}

const ZipEntry* FindZipEntry(std::span<const ZipEntry> entries, std::string_view name) {
  const auto found = std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const ZipEntry& entry, std::string_view key) { return entry.name < key; });
  return found != entries.end() && found->name == name ? &*found : nullptr;
}

}  // namespace dreamstate::tensors
