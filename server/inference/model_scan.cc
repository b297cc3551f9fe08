// The part of ModelHost that looks into the repository.
#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/strings.h"
#include "server/inference/model_host.h"
#include "server/inference/resource_names.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {

std::string ModelHost::ProblemWith(const absl::StatusOr<std::vector<std::string>>& names) const {
  if (!names.ok()) {
    return StrCat("cannot read the model repository: ", StdView(names.status().message()));
  }
  const std::string& path = repository_->path();
  if (names->empty()) {
    return StrCat("the model repository ", path,
                  " holds no model: expected bundles/<model>/<version>.json under it");
  }
  for (const std::string& model : options_.models) {
    if (std::find(names->begin(), names->end(), model) == names->end()) {
      return StrCat(
          "the model repository ", path, " holds no model \"", model, "\": expected bundles/",
          model, "/<version>.json under it; it holds ",
          absl::StrJoin(std::span(*names).first(std::min<size_t>(names->size(), 8)), ", "));
    }
  }
  return "";
}

void ModelHost::SetScanProblem(std::string problem) {
  MutexLock lock(mutex_);
  if (problem != scan_problem_ && !problem.empty()) spdlog::warn("{}", problem);
  scan_problem_ = std::move(problem);
}

void ModelHost::Scan() {
  uint64_t scan = 0;
  std::vector<std::string> unlisted;
  {
    MutexLock lock(mutex_);
    scan = ++scans_;
  }
  const absl::StatusOr<std::vector<std::string>> names = repository_->ListModels();
  SetScanProblem(ProblemWith(names));
  if (!names.ok()) return;
  for (const std::string& model : *names) {
    const bool wanted =
        options_.models.empty() ||
        std::find(options_.models.begin(), options_.models.end(), model) != options_.models.end();
    if (wanted) ScanModel(model);
  }
  // What is known and has gone.
  {
    MutexLock lock(mutex_);
    for (const auto& [model, known] : models_) {
      if (std::find(names->begin(), names->end(), model) == names->end()) unlisted.push_back(model);
    }
  }
  for (const std::string& model : unlisted) ScanModel(model);
  MutexLock lock(mutex_);
  if (!scanned_) {
    for (const auto& [model, mode] : options_.follow_by_model) {
      if (models_.contains(model)) continue;
      spdlog::warn("--follow names {}, and the repository has no such model", model);
    }
  }
  scanned_ = true;
  good_scan_ = scan;
}

void ModelHost::ScanModel(const std::string& model) {
  absl::StatusOr<std::vector<int64_t>> numbers = repository_->ListVersionNumbers(model);
  if (absl::IsNotFound(numbers.status())) numbers.emplace();
  if (!numbers.ok()) return;  // unreadable: what is known stays
  // A manifest is read once; one that could not be read, when it gets another chance.
  std::vector<int64_t> unread;
  uint64_t pin_changes = 0;
  {
    MutexLock lock(mutex_);
    const Known& known = models_[model];
    pin_changes = known.pin_changes;
    for (const int64_t number : *numbers) {
      const auto version = known.versions.find(number);
      if (version == known.versions.end() || (version->second.status.manifest == nullptr &&
                                              options_.clock->Now() >= version->second.retry_at)) {
        unread.push_back(number);
      }
    }
  }
  const absl::StatusOr<std::optional<int64_t>> pin = repository_->Pinned(model);
  std::map<int64_t, absl::StatusOr<repository::Manifest>> manifests;
  for (const int64_t number : unread) {
    manifests.emplace(number, repository_->ReadVersion(model, number));
  }

  MutexLock lock(mutex_);
  Known& known = models_[model];
  // What was read is older than a pin that this server wrote meanwhile.
  if (known.pin_changes == pin_changes) {
    const std::string pin_problem = pin.ok() ? "" : std::string(StdView(pin.status().message()));
    if (pin_problem != known.pin_problem && !pin_problem.empty()) {
      spdlog::error("{} keeps what it serves until its pin can be read: {}",
                    ModelResourceName(model), pin_problem);
    }
    known.pin_problem = pin_problem;
    if (pin.ok()) known.pinned = *pin;
  }
  for (auto& [number, manifest] : manifests) {
    Version& version = known.versions[number];
    version.status.version = number;
    if (manifest.ok()) {
      version.status.manifest = std::make_shared<const repository::Manifest>(*std::move(manifest));
      version.status.state = VersionState::kDiscovered;
      version.status.reason.clear();
      continue;
    }
    const std::string reason(StdView(manifest.status().message()));
    if (version.status.reason != reason) {
      metrics_->OnBundleRejected(model, "manifest");
      metrics_->OnReload(model,
                         IsPassing(manifest.status().code()) ? "failed_in_passing" : "rejected");
      spdlog::error("{} rejected: {}", VersionResourceName(model, number), reason);
    }
    version.status.state = VersionState::kFailed;
    version.status.reason = reason;
    version.retry_at =
        IsPassing(manifest.status().code())
            ? options_.clock->Now() +
                  RetryDelay(++version.failures, options_.first_retry, options_.most_retry)
            : absl::InfiniteFuture();
  }
  // What is in work or live stays known, also when its manifest was removed.
  std::erase_if(known.versions, [&](const auto& entry) {
    const VersionState state = entry.second.status.state;
    const bool idle = state == VersionState::kDiscovered || state == VersionState::kReleased ||
                      state == VersionState::kFailed;
    return idle && std::find(numbers->begin(), numbers->end(), entry.first) == numbers->end();
  });
  if (known.versions.empty()) models_.erase(model);
}

}  // namespace dreamstate::server
