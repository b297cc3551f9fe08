#include "core/tensors/import.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "core/base/file.h"
#include "core/base/mapping_guard.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/peer_names.h"
#include "core/tensors/pth.h"
#include "core/tensors/safetensors.h"

namespace dreamstate::tensors {
namespace {

bool LooksLikeGgmf(std::string_view start) { return start.substr(0, 4) == "fmgg"; }

// A header length and the beginning of JSON.
bool LooksLikeSafetensors(std::string_view start) { return start.size() > 8 && start[8] == '{'; }

struct Format {
  std::string_view name;
  bool (*fits)(std::string_view start);
  absl::StatusOr<TensorSet> (*read)(const std::string& path);
};

// A reader of files with the official names, or with those of another engine.
template <absl::StatusOr<TensorSet> (*kRead)(const std::string&)>
absl::StatusOr<TensorSet> Official(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const TensorSet set, kRead(path));
  DS_ASSIGN_OR_RETURN(const TensorSet official, OfficialNames(set));
  return NormalForm(official);
}

// One line a format.
constexpr Format kFormats[] = {
    {"safetensors with official, Hugging Face or web-rwkv names", LooksLikeSafetensors,
     Official<ReadSafetensors>},
    {"PyTorch .pth with official names", LooksLikePth, Official<ReadPth>},
    {"rwkv.cpp ggmf", LooksLikeGgmf, ReadGgmf},
};

}  // namespace

absl::StatusOr<TensorSet> ImportBackbone(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  const std::string_view start(reinterpret_cast<const char*>(file->bytes().data()),
                               std::min<size_t>(file->bytes().size(), 16));
  std::string known;
  for (const Format& format : kFormats) {
    if (format.fits(start)) {
      DS_ASSIGN_OR_RETURN(TensorSet set, format.read(path));
      // Tensors that were copied tell nothing later.
      DS_RETURN_IF_ERROR(CheckNothingLost(set));
      return set;
    }
    StrAppend(&known, known.empty() ? "" : ", ", format.name);
  }
  return absl::InvalidArgumentError(StrCat("format: expected one of: ", known, "; found a file of ",
                                           file->bytes().size(), " bytes that begins with \"",
                                           absl::CHexEscape(AbslView(start)), "\" (", path, ")"));
}

absl::Status CheckNothingLost(const TensorSet& set) {
  for (const Tensor& tensor : set.tensors()) {
    if (LostPages(tensor.data)) {
      return absl::DataLossError(StrCat(
          "expected a file that stays whole while it is read, found it cut (", set.source(), ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::tensors
