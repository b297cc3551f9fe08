// Any bytes as a .pth file, or else as the pickle of one whose archive is whole and has storages
// "0" to "7" (either without checksums, which would refuse every mutation before the parsers):
// refused, or tensors that fit the file and are written and read again unchanged.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensors/pth.h"
#include "core/tensors/zip_archive.h"
#include "tests/core/tensors/pth_files.h"

namespace dreamstate::tensors {

static std::string AroundPickle(std::span<const std::byte> pickle) {
  static const std::string storage(96, 's');
  std::vector<ZipEntry> entries = {{"m/data.pkl", pickle}};
  for (const char* name : {"m/data/0", "m/data/1", "m/data/2", "m/data/3", "m/data/4", "m/data/5",
                           "m/data/6", "m/data/7"}) {
    // Of different sizes: pickles find some that fit.
    const size_t sizes[] = {96, 12, 12, 24, 24, 4, 0, 64};
    entries.push_back({name, std::as_bytes(std::span(storage)).first(sizes[name[7] - '0'])});
  }
  return WriteZip(entries);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string archive =
      testing::WithoutChecksums(LooksLikePth(text) ? std::string(text) : AroundPickle(bytes));
  bytes = std::as_bytes(std::span<const char>(archive));
  const absl::StatusOr<TensorSet> set = ParsePth("fuzz", bytes, nullptr);
  if (!set.ok()) return 0;
  for (const Tensor& tensor : set->tensors()) {
    // Each view is no larger than the file, however often it shows a storage.
    if (tensor.data.size() > bytes.size()) std::abort();
  }
  const absl::StatusOr<std::string> again = SerializePth(set->tensors(), PthContainer::kDict);
  if (!again.ok()) std::abort();
  const absl::StatusOr<TensorSet> read =
      ParsePth("again", std::as_bytes(std::span<const char>(*again)), nullptr);
  if (!read.ok() || Fingerprint(*read) != Fingerprint(*set)) std::abort();
  return 0;
}

}  // namespace dreamstate::tensors
