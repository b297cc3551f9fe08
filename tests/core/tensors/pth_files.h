// Pickles and archives made by hand, to be read or refused.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/strings.h"
#include "core/tensors/zip_archive.h"

namespace dreamstate::tensors::testing {

// Pieces of a pickle.
inline std::string LittleEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
  return text;
}
inline std::string Int(int64_t value) {
  return StrCat("\x8a\x08", LittleEndian(static_cast<uint64_t>(value), 8));
}
inline std::string Text(std::string_view text) {
  return StrCat("X", LittleEndian(text.size(), 4), text);
}
inline std::string Global(std::string_view module, std::string_view name) {
  return StrCat("c", module, "\n", name, "\n");
}
inline std::string Tuple(const std::vector<std::string>& items) {
  std::string text = "(";
  for (const std::string& item : items) text += item;
  return text + "t";
}
inline std::string Ints(const std::vector<int64_t>& values) {
  std::string text = "(";
  for (const int64_t value : values) text += Int(value);
  return text + "t";
}
inline std::string Put(uint8_t index) { return std::string("q") + static_cast<char>(index); }
inline std::string Get(uint8_t index) { return std::string("h") + static_cast<char>(index); }
inline std::string Storage(std::string_view key, int64_t elements,
                           std::string_view type = "FloatStorage") {
  return Tuple({Text("storage"), Global("torch", type), Text(key), Text("cpu"), Int(elements)}) +
         "Q";
}
inline std::string NoHooks() { return StrCat(Global("collections", "OrderedDict"), ")R"); }
inline std::string TensorOf(const std::string& storage, int64_t offset,
                            const std::vector<int64_t>& shape,
                            const std::vector<int64_t>& strides) {
  return Global("torch._utils", "_rebuild_tensor_v2") +
         Tuple({storage, Int(offset), Ints(shape), Ints(strides), "\x89", NoHooks()}) + "R";
}
// Keys and values in turn.
inline std::string Dict(const std::vector<std::string>& items) {
  std::string text = "}(";
  for (const std::string& item : items) text += item;
  return text + "u";
}
inline std::string Program(std::string_view body) { return StrCat("\x80\x02", body, "."); }

// An archive of these entries.
inline std::string Zip(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::vector<ZipEntry> views;
  for (const auto& [name, data] : entries) views.push_back({name, std::as_bytes(std::span(data))});
  return WriteZip(views);
}
// The same archive with no checksums: what is damaged in it comes to the parsers behind them.
inline std::string WithoutChecksums(std::string archive) {
  constexpr std::string_view kCentral = "PK\x01\x02";
  constexpr size_t kChecksum = 16, kChecksumBytes = 4;
  for (size_t at = archive.find(kCentral); at != std::string::npos;
       at = archive.find(kCentral, at + 1)) {
    if (archive.size() - at < kChecksum + kChecksumBytes) break;
    archive.replace(at + kChecksum, kChecksumBytes, kChecksumBytes, '\0');
  }
  return archive;
}
// A checkpoint: a pickle and the data of storages "0", "1", ….
inline std::string Checkpoint(const std::string& program,
                              const std::vector<std::string>& storages) {
  std::vector<std::pair<std::string, std::string>> entries = {{"m/data.pkl", program}};
  for (size_t i = 0; i < storages.size(); ++i) {
    entries.emplace_back("m/data/" + std::to_string(i), storages[i]);
  }
  return Zip(entries);
}

}  // namespace dreamstate::tensors::testing
