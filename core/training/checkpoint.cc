#include "core/training/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

namespace fs = std::filesystem;

constexpr size_t kStepDigits = 10;
constexpr std::string_view kTemporary = ".tmp";
constexpr char kState[] = "run.json";
constexpr char kDigests[] = "sha256";  // of the other files, by name

std::string Folder(const std::string& run) { return run + "/checkpoints"; }

absl::Status Remove(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return absl::InternalError(StrCat("cannot remove ", path, ": ", error.message()));
  return absl::OkStatus();
}

absl::StatusOr<std::string> FileDigest(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  return Sha256OfFile(*file);
}

}  // namespace

std::string CheckpointPath(const std::string& run, int64_t step) {
  return absl::StrFormat("%s/%010d", Folder(run), step);
}

absl::StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& run) {
  std::error_code error;
  if (!fs::is_directory(Folder(run), error)) return std::vector<int64_t>();
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(Folder(run)));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    int64_t step = 0;
    if (name.size() == kStepDigits && absl::SimpleAtoi(name, &step)) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::Status SaveCheckpoint(const std::string& run, int64_t step, Learner& learner,
                            const std::string& position, const nlohmann::json& state) {
  const std::string path = CheckpointPath(run, step);
  const std::string temporary = path + std::string(kTemporary);
  std::error_code error;
  // A resumed run that comes to a step again comes to the same.
  if (fs::exists(path, error)) return absl::OkStatus();
  DS_RETURN_IF_ERROR(Remove(temporary));
  DS_RETURN_IF_ERROR(MakeDirectories(temporary));
  DS_RETURN_IF_ERROR(learner.Save(temporary));
  nlohmann::json json = {{"step", step}, {"data_position", position}, {"run", state}};
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> files, ListDirectory(temporary));
  for (const std::string& name : files) {
    DS_ASSIGN_OR_RETURN(json[kDigests][name], FileDigest(StrCat(temporary, "/", name)));
  }
  DS_RETURN_IF_ERROR(WriteFileAtomically(StrCat(temporary, "/", kState), json.dump() + "\n"));
  DS_RETURN_IF_ERROR(SyncDirectory(temporary));
  fs::rename(temporary, path, error);
  if (error) {
    return absl::InternalError(StrCat("cannot rename ", temporary, ": ", error.message()));
  }
  return SyncDirectory(Folder(run));
}

absl::StatusOr<RestoredCheckpoint> RestoreCheckpoint(const std::string& run, int64_t step,
                                                     Learner& learner) {
  const std::string path = CheckpointPath(run, step);
  const std::string file = StrCat(path, "/", kState);
  constexpr size_t kMostBytes = size_t{1} << 28;
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kMostBytes));
  RestoredCheckpoint restored;
  std::map<std::string, std::string> digests;
  constexpr int kDeepest = 8;
  const auto parsed = ParseJsonObject(file, text, kDeepest);
  if (!parsed.ok()) return absl::DataLossError(parsed.status().message());
  const nlohmann::json& json = *parsed;
  try {
    restored.position = json.at("data_position").get<std::string>();
    restored.state = json.at("run");
    digests = json.at(kDigests).get<std::map<std::string, std::string>>();
  } catch (const nlohmann::json::exception&) {
    return absl::DataLossError(StrCat(file, ": expected what a checkpoint holds"));
  }
  for (const auto& [name, expected] : digests) {
    if (name.find('/') != std::string::npos) {
      return absl::DataLossError(StrCat(file, ": expected what a checkpoint holds"));
    }
    DS_ASSIGN_OR_RETURN(const std::string found, FileDigest(StrCat(path, "/", name)));
    if (found != expected) {
      return absl::DataLossError(
          StrCat(path, "/", name, ": damaged: expected SHA-256 ", expected, ", found ", found));
    }
  }
  DS_RETURN_IF_ERROR(learner.Restore(path));
  return restored;
}

absl::Status PruneCheckpoints(const std::string& run, int keep) {
  DS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(run));
  for (size_t i = 0; i + keep < steps.size(); ++i) {
    DS_RETURN_IF_ERROR(Remove(CheckpointPath(run, steps[i])));
  }
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(Folder(run)));
  for (const std::string& name : names) {
    if (name.ends_with(kTemporary)) DS_RETURN_IF_ERROR(Remove(Folder(run) + "/" + name));
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::training
