#include "core/tensors/pth_storages.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/zip_archive.h"

namespace dreamstate::tensors {
namespace {

absl::Status Refuse(const std::string& source, std::string_view subject, std::string_view problem) {
  return absl::InvalidArgumentError(
      StrCat(absl::CHexEscape(AbslView(subject.substr(0, 128))), ": ", problem, " (", source, ")"));
}

absl::StatusOr<size_t> StorageBytes(const std::string& source, const PickleStorage& storage) {
  const std::optional<size_t> bytes = TensorBytes(storage.dtype, std::span(&storage.elements, 1));
  if (bytes.has_value()) return *bytes;
  return Refuse(source, StrCat("storage ", storage.key),
                StrCat("expected a size below 2^63 bytes, found ", storage.elements, " ",
                       DTypeName(storage.dtype)));
}

// The pickles of the legacy format, one after another.
class LegacyReader {
 public:
  LegacyReader(const std::string& source, std::span<const std::byte> bytes)
      : source_(source), rest_(bytes.subspan(kLegacyPthMagic.size())) {}

  absl::Status Read(Pickle* pickle, PthStorages* storages);

 private:
  absl::StatusOr<Pickle> Next(std::string_view entry) {
    DS_ASSIGN_OR_RETURN(Pickle pickle, ParsePickle(source_, entry, rest_));
    rest_ = rest_.subspan(pickle.bytes);
    return pickle;
  }
  absl::Status CheckHeader();
  absl::Status ReadStorage(const PickleStorage& storage, std::span<const std::byte>* data);

  const std::string& source_;
  std::span<const std::byte> rest_;
};

absl::Status LegacyReader::CheckHeader() {
  DS_ASSIGN_OR_RETURN(const Pickle version, Next("protocol version"));
  constexpr int64_t kVersion = 1001;
  if (version.root.kind != PickleValue::kInt || version.root.number != kVersion) {
    return Refuse(source_, "protocol version", StrCat("expected ", kVersion, ", found another"));
  }
  DS_ASSIGN_OR_RETURN(const Pickle system, Next("system"));
  if (system.root.kind != PickleValue::kDict) {
    return Refuse(source_, "system",
                  StrCat("expected a dict, found ", PickleKindName(system.root.kind)));
  }
  const std::vector<PickleValue>& items = system.items[system.root.index];
  for (size_t i = 0; i < items.size(); i += 2) {
    if (items[i].text == "little_endian" && items[i + 1].number == 0) {
      return Refuse(source_, "byte order", "expected little, found another");
    }
  }
  return absl::OkStatus();
}

// The number of elements, then their bytes.
absl::Status LegacyReader::ReadStorage(const PickleStorage& storage,
                                       std::span<const std::byte>* data) {
  DS_ASSIGN_OR_RETURN(const size_t bytes, StorageBytes(source_, storage));
  const std::string name = StrCat("storage ", storage.key);
  constexpr size_t kCountBytes = 8;
  if (rest_.size() < kCountBytes || bytes > rest_.size() - kCountBytes) {
    return Refuse(source_, name,
                  StrCat("expected ", bytes, " bytes, found ", rest_.size(),
                         " with its length (truncated?)"));
  }
  uint64_t elements = 0;
  for (size_t i = 0; i < kCountBytes; ++i) {
    elements |= static_cast<uint64_t>(rest_[i]) << (8 * i);
  }
  if (elements != static_cast<uint64_t>(storage.elements)) {
    return Refuse(source_, name,
                  StrCat("expected ", storage.elements, " elements, found ", elements));
  }
  *data = rest_.subspan(kCountBytes, bytes);
  rest_ = rest_.subspan(kCountBytes + bytes);
  return absl::OkStatus();
}

absl::Status LegacyReader::Read(Pickle* pickle, PthStorages* storages) {
  DS_RETURN_IF_ERROR(CheckHeader());
  DS_ASSIGN_OR_RETURN(*pickle, Next("pickle"));
  DS_ASSIGN_OR_RETURN(const Pickle order, Next("storage keys"));
  if (order.root.kind != PickleValue::kList) {
    return Refuse(source_, "storage keys",
                  StrCat("expected a list, found ", PickleKindName(order.root.kind)));
  }
  std::map<std::string_view, size_t> places;
  for (size_t i = 0; i < pickle->storages.size(); ++i) places[pickle->storages[i].key] = i;
  storages->data.resize(pickle->storages.size());
  // A place is taken out when its data was read: what comes twice is found nowhere.
  for (const PickleValue& key : order.items[order.root.index]) {
    const auto place = places.find(key.text);
    if (place == places.end()) {
      return Refuse(source_, "storage keys",
                    "expected each storage of the pickle once, found another key");
    }
    DS_RETURN_IF_ERROR(
        ReadStorage(pickle->storages[place->second], &storages->data[place->second]));
    places.erase(place);
  }
  if (!places.empty()) {
    return Refuse(source_, StrCat("storage ", places.begin()->first),
                  "expected its data, found none");
  }
  if (!rest_.empty()) {
    return Refuse(source_, "file", StrCat("expected its end, found ", rest_.size(), " more bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadZipPth(const std::string& source, std::span<const std::byte> bytes, Pickle* pickle,
                        PthStorages* storages) {
  DS_ASSIGN_OR_RETURN(const std::vector<ZipEntry> entries, ReadZip(source, bytes));
  constexpr std::string_view kPickleName = "data.pkl";
  const ZipEntry* program = nullptr;
  for (const ZipEntry& entry : entries) {
    const size_t slash = entry.name.find('/');
    if (slash == std::string_view::npos || entry.name.substr(slash + 1) != kPickleName) continue;
    if (program != nullptr) return Refuse(source, kPickleName, "expected once, found twice");
    program = &entry;
  }
  if (program == nullptr) {
    return Refuse(source, kPickleName,
                  "expected in the zip archive as in PyTorch's files, found none");
  }
  const std::string root(program->name.substr(0, program->name.size() - kPickleName.size()));
  if (const ZipEntry* order = FindZipEntry(entries, root + "byteorder"); order != nullptr) {
    const std::string_view found(reinterpret_cast<const char*>(order->data.data()),
                                 order->data.size());
    if (found != "little") return Refuse(source, order->name, "expected little, found another");
  }
  DS_RETURN_IF_ERROR(CheckZipData(source, *program));
  DS_ASSIGN_OR_RETURN(*pickle, ParsePickle(source, program->name, program->data));
  if (pickle->bytes != program->data.size()) {
    return Refuse(source, program->name,
                  StrCat("expected ", pickle->bytes, " bytes, found ", program->data.size()));
  }
  for (const PickleStorage& storage : pickle->storages) {
    DS_ASSIGN_OR_RETURN(const size_t size, StorageBytes(source, storage));
    const std::string name = StrCat(root, "data/", storage.key);
    const ZipEntry* entry = FindZipEntry(entries, name);
    if (entry == nullptr) {
      return Refuse(source, name, "expected in the zip archive, found no such entry");
    }
    if (entry->data.size() != size) {
      return Refuse(source, name,
                    StrCat("expected ", size, " bytes for ", storage.elements, " ",
                           DTypeName(storage.dtype), ", found ", entry->data.size()));
    }
    DS_RETURN_IF_ERROR(CheckZipData(source, *entry));
    storages->data.push_back(entry->data);
  }
  return absl::OkStatus();
}

absl::Status ReadLegacyPth(const std::string& source, std::span<const std::byte> bytes,
                           Pickle* pickle, PthStorages* storages) {
  return LegacyReader(source, bytes).Read(pickle, storages);
}

}  // namespace dreamstate::tensors
