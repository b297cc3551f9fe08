#include "core/training/state_dataset.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/draws.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/safetensors.h"

namespace dreamstate::training {
namespace {

constexpr uint32_t kExcerptStream = 0x45584352;  // "EXCR"; the substream is the split and document

using Json = nlohmann::json;
constexpr Split kSplits[] = {Split::kTrain, Split::kValid, Split::kTest};

std::string InfoPath(const std::string& directory) { return directory + "/dataset.json"; }

std::string Serialize(const StateDatasetInfo& info) {
  Json shards = Json::object();
  for (const Split split : kSplits) {
    shards[std::string(SplitName(split))] = info.shards[static_cast<int>(split)];
  }
  const nlohmann::ordered_json json = {{"schema", 1},
                                       {"backbone", info.backbone},
                                       {"layers", info.shape.layers},
                                       {"width", info.shape.width},
                                       {"heads", info.shape.heads},
                                       {"head_size", info.shape.head_size},
                                       {"tokenizer", info.tokenizer},
                                       {"separator", info.separator},
                                       {"corpus", info.corpus},
                                       {"labels", info.labels},
                                       {"trained", info.trained},
                                       {"positions", info.positions},
                                       {"before", info.before},
                                       {"excerpts", info.excerpts},
                                       {"excerpt_tokens", info.excerpt_tokens},
                                       {"taps", info.taps},
                                       {"documents_per_shard", info.documents_per_shard},
                                       {"seed", info.seed},
                                       {"shards", shards}};
  return json.dump(2) + "\n";
}

absl::Status CheckInfo(const std::string& path, const StateDatasetInfo& info) {
  const auto wrong = [&path](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(path, ": ", what));
  };
  if (const absl::Status status = info.shape.Validate(); !status.ok()) {
    return WithPrefix(path, status);
  }
  if (info.labels.empty() || info.trained.size() != info.labels.size()) {
    return wrong("labels: expected at least one, and as many in trained");
  }
  if (info.positions.empty() || info.positions.front() < 1) {
    return wrong("positions: expected numbers of tokens above 0");
  }
  for (size_t i = 1; i < info.positions.size(); ++i) {
    if (info.positions[i] <= info.positions[i - 1])
      return wrong("positions: expected them to rise");
  }
  constexpr int kMost = 1 << 20;
  if (info.excerpts < 0 || info.excerpts > kMost || info.excerpt_tokens < 0 ||
      info.excerpt_tokens > kMost || info.documents_per_shard < 1) {
    return wrong("excerpts, excerpt_tokens or documents_per_shard out of range");
  }
  for (const int tap : info.taps) {
    if (tap < 0 || tap >= info.shape.layers) {
      return wrong(StrCat("taps: expected layers below ", info.shape.layers, ", found ", tap));
    }
  }
  for (const int shards : info.shards) {
    if (shards < 0 || shards > kMost) return wrong("shards: out of range");
  }
  return absl::OkStatus();
}

absl::StatusOr<StateDatasetInfo> Parse(const std::string& path, std::string_view text) {
  constexpr int kDeepest = 4;
  DS_ASSIGN_OR_RETURN(const Json json, ParseJsonObject<Json>(path, text, kDeepest));
  StateDatasetInfo info;
  try {
    if (json.at("schema").get<int>() != 1) {
      return absl::InvalidArgumentError(
          StrCat(path, ": schema: expected 1, found ", json.at("schema").dump()));
    }
    json.at("backbone").get_to(info.backbone);
    json.at("layers").get_to(info.shape.layers);
    json.at("width").get_to(info.shape.width);
    json.at("heads").get_to(info.shape.heads);
    json.at("head_size").get_to(info.shape.head_size);
    json.at("tokenizer").get_to(info.tokenizer);
    json.at("separator").get_to(info.separator);
    json.at("corpus").get_to(info.corpus);
    json.at("labels").get_to(info.labels);
    json.at("trained").get_to(info.trained);
    json.at("positions").get_to(info.positions);
    json.at("before").get_to(info.before);
    json.at("excerpts").get_to(info.excerpts);
    json.at("excerpt_tokens").get_to(info.excerpt_tokens);
    json.at("taps").get_to(info.taps);
    json.at("documents_per_shard").get_to(info.documents_per_shard);
    json.at("seed").get_to(info.seed);
    for (const Split split : kSplits) {
      json.at("shards")
          .at(std::string(SplitName(split)))
          .get_to(info.shards[static_cast<int>(split)]);
    }
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(
        StrCat(path, ": expected what describes a data set of states: ", error.what()));
  }
  DS_RETURN_IF_ERROR(CheckInfo(path, info));
  return info;
}

// The values of an i32 tensor [size]; -1 = any size.
absl::StatusOr<std::vector<int32_t>> Integers(const tensors::TensorSet& set, const char* name,
                                              int64_t size) {
  DS_ASSIGN_OR_RETURN(const tensors::Tensor* tensor, set.Require(name, tensors::Shape{size}));
  if (tensor->dtype != tensors::DType::kI32) {
    return absl::InvalidArgumentError(StrCat(set.source(), ": ", name, ": expected i32, found ",
                                             tensors::DTypeName(tensor->dtype)));
  }
  std::vector<int32_t> values(static_cast<size_t>(tensor->elements()));
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

}  // namespace

bool operator==(const StateDatasetInfo& a, const StateDatasetInfo& b) {
  return Serialize(a) == Serialize(b);
}

std::vector<int64_t> ExcerptStarts(const StateDatasetInfo& info, Split split, int64_t document,
                                   int64_t tokens) {
  std::vector<int64_t> starts;
  const int64_t room = tokens - info.excerpt_tokens;
  if (room < 0 || info.excerpt_tokens == 0) return starts;
  Draws draws(info.seed, kExcerptStream,
              static_cast<uint32_t>(split) << 28 | static_cast<uint32_t>(document));
  for (int excerpt = 0; excerpt < info.excerpts; ++excerpt) {
    starts.push_back(static_cast<int64_t>(draws.Below(static_cast<uint32_t>(room + 1))));
  }
  return starts;
}

absl::StatusOr<StateDataset> StateDataset::Create(const std::string& directory,
                                                  const StateDatasetInfo& info) {
  const std::string path = InfoPath(directory);
  DS_RETURN_IF_ERROR(CheckInfo(path, info));
  for (const Split split : kSplits) {
    DS_RETURN_IF_ERROR(MakeDirectories(StrCat(directory, "/", SplitName(split))));
  }
  if (access(path.c_str(), F_OK) == 0) {
    DS_ASSIGN_OR_RETURN(StateDataset there, Open(directory));
    if (there.info() == info) return there;
    return absl::FailedPreconditionError(
        StrCat(path, ": holds states of another backbone, corpus or other options"));
  }
  DS_RETURN_IF_ERROR(WriteFileAtomically(path, Serialize(info)));
  return Open(directory);
}

absl::StatusOr<StateDataset> StateDataset::Open(const std::string& directory) {
  constexpr size_t kMostBytes = 1 << 20;
  const std::string path = InfoPath(directory);
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
  StateDataset dataset;
  dataset.directory_ = directory;
  DS_ASSIGN_OR_RETURN(dataset.info_, Parse(path, text));
  return dataset;
}

std::string StateDataset::ShardPath(Split split, int shard) const {
  return absl::StrFormat("%s/%s/%05d.safetensors", directory_, SplitName(split), shard);
}

bool StateDataset::HasShard(Split split, int shard) const {
  return access(ShardPath(split, shard).c_str(), F_OK) == 0;
}

absl::Status StateDataset::CheckComplete(Split split) const {
  const int shards = info_.shards[static_cast<int>(split)];
  int missing = 0;
  for (int shard = 0; shard < shards; ++shard) missing += HasShard(split, shard) ? 0 : 1;
  if (missing == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(directory_, ": ", missing, " of ", shards,
                                              " shards of ", SplitName(split),
                                              " are missing; harvest goes on with them"));
}

absl::StatusOr<StateShard> StateDataset::ReadShard(Split split, int shard) const {
  StateShard out;
  DS_ASSIGN_OR_RETURN(out.tensors, tensors::ReadSafetensors(ShardPath(split, shard)));
  const tensors::TensorSet& set = out.tensors;
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> labels, Integers(set, "label", -1));
  const auto count = static_cast<int64_t>(labels.size());
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> documents, Integers(set, "document", count));
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> positions, Integers(set, "position", count));
  for (int64_t i = 0; i < count; ++i) {
    if (labels[i] < 0 || labels[i] >= static_cast<int32_t>(info_.labels.size()) ||
        documents[i] < 0) {
      return absl::InvalidArgumentError(
          StrCat(set.source(), ": state ", i, ": expected one of ", info_.labels.size(),
                 " labels and a document, found ", labels[i], " and ", documents[i]));
    }
    out.origins.push_back({labels[i], documents[i], positions[i]});
  }
  const state::Shape& s = info_.shape;
  const auto check = [&](const char* prefix) -> absl::Status {
    DS_RETURN_IF_ERROR(set.Require(StrCat(prefix, "wkv"), tensors::Shape{count, s.layers, s.heads,
                                                                         s.head_size, s.head_size})
                           .status());
    return set.Require(StrCat(prefix, "shift"), tensors::Shape{count, s.layers, 2, s.width})
        .status();
  };
  DS_RETURN_IF_ERROR(check(""));
  if (info_.before) DS_RETURN_IF_ERROR(check("before."));
  DS_ASSIGN_OR_RETURN(out.excerpt_documents, Integers(set, "excerpt.document", -1));
  DS_RETURN_IF_ERROR(
      set.Require("excerpt.activations",
                  tensors::Shape{static_cast<int64_t>(out.excerpt_documents.size()), info_.excerpts,
                                 info_.excerpt_tokens, info_.activation_width()})
          .status());
  return out;
}

}  // namespace dreamstate::training
