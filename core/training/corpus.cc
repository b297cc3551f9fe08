#include "core/training/corpus.h"

#include <algorithm>
#include <map>
#include <span>
#include <string_view>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/mapping_guard.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/token_file.h"

namespace dreamstate::training {
namespace {

constexpr size_t kMostJsonBytes = size_t{1} << 30;
constexpr int kDeepest = 8;
constexpr Split kSplits[] = {Split::kTrain, Split::kValid, Split::kTest};

// A field of a JSON object, or INVALID_ARGUMENT naming it and the place.
template <typename T>
absl::Status Field(const nlohmann::json& object, const char* name, std::string_view place, T* out) {
  try {
    *out = object.at(name).get<T>();
    return absl::OkStatus();
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError(StrCat(place, ": ", name, ": missing, or not of its type"));
  }
}

}  // namespace

std::string_view SplitName(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kValid:
      return "valid";
    case Split::kTest:
      return "test";
  }
  return "";
}

absl::StatusOr<std::shared_ptr<const Corpus>> Corpus::Open(const std::string& directory) {
  const std::string path = directory + "/corpus.json";
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostJsonBytes));
  DS_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(path, text, kDeepest));
  int64_t schema = 0;
  DS_RETURN_IF_ERROR(Field(json, "schema", path, &schema));
  if (schema != 1) {
    return absl::InvalidArgumentError(StrCat(path, ": schema: expected 1, found ", schema));
  }
  std::shared_ptr<Corpus> corpus(new Corpus());
  corpus->directory_ = directory;
  corpus->digest_ = Sha256Hex(text);
  DS_RETURN_IF_ERROR(Field(json, "tokenizer", path, &corpus->tokenizer_));
  if (corpus->tokenizer_ != "byte" && corpus->tokenizer_ != "world") {
    return absl::InvalidArgumentError(
        StrCat(path, ": tokenizer: expected byte or world, found ", corpus->tokenizer_));
  }
  const int vocab = corpus->tokenizer_ == "byte" ? 256 : 65536;
  nlohmann::json labels;
  DS_RETURN_IF_ERROR(Field(json, "labels", path, &labels));
  std::map<std::string, int32_t> index;
  for (const nlohmann::json& label : labels) {
    std::string name;
    bool trained = false;
    DS_RETURN_IF_ERROR(Field(label, "name", path + ": labels", &name));
    DS_RETURN_IF_ERROR(Field(label, "trained", path + ": labels", &trained));
    if (!corpus->labels_.empty() && name <= corpus->labels_.back()) {
      return absl::InvalidArgumentError(StrCat(path, ": labels: expected them sorted, found ", name,
                                               " after ", corpus->labels_.back()));
    }
    index[name] = static_cast<int32_t>(corpus->labels_.size());
    corpus->labels_.push_back(name);
    corpus->trained_.push_back(trained);
  }
  for (const Split split : kSplits) {
    const int s = static_cast<int>(split);
    const std::string stem = StrCat(directory, "/", SplitName(split));
    DS_ASSIGN_OR_RETURN(TokenFile file, OpenTokenFile(stem));
    for (size_t i = 0; i < file.tokens.size(); ++i) {
      if (file.tokens[i] >= vocab) {
        return absl::InvalidArgumentError(StrCat(stem, ".bin: token ", i, ": expected less than ",
                                                 vocab, ", found ", file.tokens[i]));
      }
    }
    const std::string list = stem + ".documents.jsonl";
    DS_ASSIGN_OR_RETURN(const std::string lines, ReadFile(list, kMostJsonBytes));
    size_t at = 0;
    int64_t begin = 0;
    for (size_t i = 0; at < lines.size(); ++i) {
      const size_t end = std::min(lines.find('\n', at), lines.size());
      const std::string place = StrCat(list, ": line ", i + 1);
      DS_ASSIGN_OR_RETURN(
          const nlohmann::json line,
          ParseJsonObject(place, std::string_view(lines).substr(at, end - at), kDeepest));
      at = end + 1;
      Document document;
      std::string label;
      DS_RETURN_IF_ERROR(Field(line, "label", place, &label));
      DS_RETURN_IF_ERROR(Field(line, "name", place, &document.name));
      DS_RETURN_IF_ERROR(Field(line, "begin", place, &document.begin));
      DS_RETURN_IF_ERROR(Field(line, "tokens", place, &document.tokens));
      const auto found = index.find(label);
      if (found == index.end()) {
        return absl::InvalidArgumentError(
            StrCat(place, ": label: expected one that corpus.json lists, found ", label));
      }
      document.label = found->second;
      if (i >= file.sizes.size() || document.begin != begin ||
          document.tokens != file.sizes[i] - 1) {
        return absl::InvalidArgumentError(StrCat(place, ": expected document ", i, " of ", stem,
                                                 ".idx, found ", document.tokens, " tokens at ",
                                                 document.begin));
      }
      if (file.tokens[begin + document.tokens] != 0) {
        return absl::InvalidArgumentError(StrCat(place, ": expected token 0 at its end, found ",
                                                 file.tokens[begin + document.tokens]));
      }
      begin += document.tokens + 1;
      corpus->documents_[s].push_back(std::move(document));
    }
    if (corpus->documents_[s].size() != file.sizes.size()) {
      return absl::InvalidArgumentError(StrCat(list, ": expected ", file.sizes.size(),
                                               " documents, found ", corpus->documents_[s].size()));
    }
    corpus->tokens_[s] = file.tokens;
    corpus->memory_[s] = std::move(file.memory);
  }
  DS_RETURN_IF_ERROR(corpus->CheckNothingLost());
  return std::shared_ptr<const Corpus>(std::move(corpus));
}

absl::Status Corpus::CheckNothingLost() const {
  for (const Split split : kSplits) {
    if (LostPages(std::as_bytes(tokens(split)))) {
      return absl::DataLossError(
          StrCat(directory_, "/", SplitName(split), ".bin: was cut while it was read"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::training
