#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/safetensors.h"
#include "core/tensors/safetensors_header.h"

namespace dreamstate::tensors {
namespace {

constexpr size_t kLengthBytes = 8;

absl::Status Refuse(const std::string& source, std::string_view subject, std::string_view problem) {
  return absl::InvalidArgumentError(StrCat(subject, ": ", problem, " (", source, ")"));
}

uint64_t LittleEndian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// The header's text, bounded by the file.
absl::StatusOr<std::string_view> HeaderText(const std::string& source,
                                            std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    return Refuse(source, "header",
                  StrCat("expected at least ", kLengthBytes, " bytes, found ", bytes.size()));
  }
  const uint64_t length = LittleEndian(bytes);
  if (length > kMaxSafetensorsHeaderBytes) {
    return Refuse(source, "header",
                  StrCat("expected at most ", kMaxSafetensorsHeaderBytes,
                         " bytes, found a length of ", length));
  }
  if (length > bytes.size() - kLengthBytes) {
    return Refuse(
        source, "header",
        StrCat("expected ", length, " bytes, found ", bytes.size() - kLengthBytes, " (truncated)"));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') {
    return Refuse(source, "header", "expected JSON that begins with {, found something else");
  }
  return text;
}

// Every tensor lies inside the data, where its shape says, and the data has no holes and no
// overlaps.
absl::Status CheckLayout(const std::string& source, std::vector<SafetensorsHeader::Entry>& entries,
                         size_t data_bytes) {
  for (const SafetensorsHeader::Entry& entry : entries) {
    const std::string range = StrCat("[", entry.begin, ", ", entry.end, "]");
    if (entry.begin > entry.end || entry.end > data_bytes) {
      return Refuse(source, entry.name,
                    StrCat("expected data_offsets within ", data_bytes, " bytes of data, found ",
                           range, entry.begin > entry.end ? "" : " (truncated?)"));
    }
    const std::optional<size_t> bytes = TensorBytes(entry.dtype, entry.shape);
    const std::string what = StrCat(DTypeName(entry.dtype), " ", ShapeString(entry.shape));
    if (!bytes.has_value()) {
      return Refuse(source, entry.name, StrCat("expected a size below 2^63 bytes, found ", what));
    }
    if (*bytes != entry.end - entry.begin) {
      return Refuse(source, entry.name,
                    StrCat("expected ", *bytes, " bytes for ", what, ", found ",
                           entry.end - entry.begin, " at ", range));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const SafetensorsHeader::Entry& entry : entries) {
    if (entry.begin != at) {
      return Refuse(source, entry.name,
                    StrCat("expected its data to begin at ", at, ", found ", entry.begin,
                           entry.begin < at ? " (overlap)" : " (hole)"));
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    return Refuse(source, "data", StrCat("expected ", at, " bytes, found ", data_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TensorSet> ParseSafetensors(std::string source, std::span<const std::byte> bytes,
                                           std::shared_ptr<const void> memory) {
  DS_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(source, bytes));
  DS_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(source, text));
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + text.size());
  DS_RETURN_IF_ERROR(CheckLayout(source, header.entries, data.size()));
  std::vector<Tensor> tensors;
  tensors.reserve(header.entries.size());
  for (SafetensorsHeader::Entry& entry : header.entries) {
    tensors.push_back({.name = std::move(entry.name),
                       .dtype = entry.dtype,
                       .shape = std::move(entry.shape),
                       .data = data.subspan(entry.begin, entry.end - entry.begin)});
  }
  return TensorSet::Make(std::move(source), std::move(tensors), std::move(header.metadata),
                         std::move(memory));
}

absl::StatusOr<TensorSet> ReadSafetensors(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  return ParseSafetensors(path, file->bytes(), file);
}

}  // namespace dreamstate::tensors
