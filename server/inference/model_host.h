// The lives of bundles in this server. Each (model, version) goes
//   Discovered → Verifying → Loading → WarmingUp → Serving → Draining → Released,  any → Failed
//   (with a reason)
// One background thread looks into the repository and does what model_policy.h decides; verifying
// and loading happen on a second one, one version at a time (bundle_loader.h). A version that
// passed its self-test is published by one pointer swap; one that failed is never served, and what
// served before serves on. Requests find what serves through ModelDirectory and hold it until they
// end. Thread-safe; no lock is held across files, loading or computing.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/mutex.h"
#include "core/repository/repository.h"
#include "core/rwkv/weights.h"
#include "server/inference/bundle_loader.h"
#include "server/inference/metrics.h"
#include "server/inference/model_policy.h"
#include "server/inference/model_session.h"

namespace dreamstate::server {

struct ModelHostOptions {
  std::vector<std::string> models;            // empty = all of the repository
  std::optional<rwkv::WeightFormat> weights;  // unset = ChooseWeightFormat
  SchedulerOptions scheduler;
  absl::Duration poll = absl::Seconds(1);
  FollowMode follow = FollowMode::kAll;
  std::map<std::string, FollowMode> follow_by_model;  // instead of `follow`
  // How long streams may stay on a replaced version that another one waits for.
  absl::Duration max_drain = absl::Minutes(5);
  // After a failure that may pass by itself; doubles up to `most_retry`.
  absl::Duration first_retry = absl::Seconds(5);
  absl::Duration most_retry = absl::Minutes(5);
  const Clock* clock = &Clock::Real();
  // Told, on the background thread, when no version with this backbone lives any more.
  std::function<void(const std::string& fingerprint)> on_backbone_gone = [](const std::string&) {};
  std::function<std::optional<int64_t>()> available_memory = [] {
    return AvailableMemoryBytes(ReadMemoryFiles());
  };
};

// fp32 while the weights stay in the processor's cache (exact, and no slower); above it int8, where
// the publisher measured what it costs, else bf16 (a decode step reads every weight, so half the
// bytes is half the time). A format without a self-test tolerance in the manifest is not chosen.
rwkv::WeightFormat ChooseWeightFormat(int64_t parameters, const repository::SelfTest& self_test);

struct VersionStatus {
  int64_t version = 0;
  VersionState state = VersionState::kDiscovered;
  std::string reason;                                    // with kFailed
  std::shared_ptr<const repository::Manifest> manifest;  // null when it cannot be read
  std::optional<double> measured_nll;
  std::optional<double> tolerance;  // of the format in use
  int64_t parameters = 0;           // known once loaded
};

struct ModelStatus {
  std::string model;
  FollowMode follow = FollowMode::kAll;
  std::optional<int64_t> pinned;
  std::vector<VersionStatus> versions;          // newest first
  std::shared_ptr<const ModelSession> session;  // null while none serves
};

// Told when nothing is left to load for a model.
class SettledListener {
 public:
  virtual ~SettledListener() = default;
  // At most once, from a background thread; must not block. NOT_FOUND when the model is gone,
  // UNAVAILABLE when the server drains, and saying why when the repository cannot be read.
  virtual void OnSettled(absl::StatusOr<ModelStatus> status) = 0;
};

class ModelHost : public ModelDirectory {
 public:
  // Told when a model begins or stops to serve; from the background thread.
  using ServingCallback = std::function<void(const std::string& model, bool serving)>;

  // `metrics` and the options' clock outlive this.
  ModelHost(std::unique_ptr<repository::Repository> repository, ModelHostOptions options,
            Metrics* metrics, ServingCallback on_serving);
  // As Stop.
  ~ModelHost() override;

  // Starts the background thread; call once. Before it no model is known.
  void Start();

  absl::StatusOr<std::shared_ptr<const ModelSession>> Find(std::string_view name) const override;
  std::shared_ptr<const ModelSession> FindBackbone(const std::string& model,
                                                   std::string_view fingerprint) const override;

  // In order of name.
  std::vector<ModelStatus> Models() const;
  // NOT_FOUND with the resource, or UNAVAILABLE while the repository has not been looked into.
  absl::StatusOr<ModelStatus> Model(const std::string& model) const;

  // Looks into the repository now and gives versions of `model` that failed another chance; their
  // numbers, newest first. Errors as Model.
  absl::StatusOr<std::vector<int64_t>> Reload(const std::string& model);
  // Tells `listener` once the repository has been looked into from now on and nothing is left to
  // load. Whoever lets go of it is not told.
  void WhenSettled(const std::string& model, std::weak_ptr<SettledListener> listener);
  // Writes the repository's pin, or removes it, and follows it. Blocks for a few file operations.
  // NOT_FOUND; FAILED_PRECONDITION when the repository is read-only.
  absl::StatusOr<ModelStatus> Pin(const std::string& model, int64_t version);
  absl::StatusOr<ModelStatus> Unpin(const std::string& model);

  // From now on Find answers UNAVAILABLE; nothing more is loaded; schedulers refuse new jobs.
  void BeginDrain();
  // BeginDrain, then waits until no scheduler runs anything or `limit` has passed. True when
  // nothing runs.
  bool Drain(absl::Duration limit);
  // Ends every job and joins the background threads. Idempotent.
  void Stop();

 private:
  // What the host knows of a version beyond what it tells.
  struct Version {
    VersionStatus status;
    int failures = 0;
    absl::Time retry_at = absl::InfiniteFuture();
    bool ready = false;                              // as VersionView
    std::shared_ptr<const VerifiedBundle> verified;  // while it waits for its load
    // While live or ready. `session` is the host's own hold; `lease` is what calls are given, null
    // when they are given none; `held` is expired once nobody holds a lease.
    std::shared_ptr<const ModelSession> session;
    std::shared_ptr<const ModelSession> lease;
    std::weak_ptr<const ModelSession> held;
    bool kept = false;
    bool ending = false;
    absl::Time drains_since = absl::InfiniteFuture();
  };
  struct Known {
    std::optional<int64_t> pinned;
    std::string pin_problem;                                     // why the pin cannot be read
    uint64_t pin_changes = 0;                                    // by Pin and Unpin
    std::map<int64_t, Version, std::greater<int64_t>> versions;  // newest first
  };
  struct Waiter {
    std::string model;
    std::weak_ptr<SettledListener> listener;
    uint64_t scan;  // the first that counts
  };

  void Run();
  // Looks into the repository (model_scan.cc).
  void Scan();
  void ScanModel(const std::string& model);
  // What keeps `names`, the models found, from being all that was asked for; empty = nothing.
  std::string ProblemWith(const absl::StatusOr<std::vector<std::string>>& names) const;
  void SetScanProblem(std::string problem);

  // Acts on the policy's answer; false when there was nothing to do.
  bool Act();
  void Begin(const Action& action);
  void Verify(const Action& action);
  void Load(const Action& action);
  void Promote(const Action& action);
  void Release(const Action& action);
  void Fail(const Action& action, std::string_view phase, const absl::Status& status);
  // Tells metrics what is live.
  void ReportLive(const std::string& model);
  void TellSettled();

  std::vector<ModelView> View() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ModelView ViewOf(const std::string& name, const Known& model) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ModelStatus StatusOf(const std::string& name, const Known& model) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // NOT_FOUND naming the models that are there.
  absl::Status NoSuchModel(std::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Version* FindVersion(const Action& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetState(const Action& action, VersionState state);
  BundleLoader::Shared SharedBackbone(const std::string& model,
                                      const repository::Manifest& manifest) const;
  std::vector<std::shared_ptr<const ModelSession>> Sessions() const;
  FollowMode FollowOf(const std::string& model) const;
  bool stopping() const;

  const std::unique_ptr<repository::Repository> repository_;
  const ModelHostOptions options_;
  const BundleLoader loader_;
  Metrics* const metrics_;
  const ServingCallback on_serving_;

  mutable Mutex mutex_;
  ConditionVariable changed_;
  bool scanned_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t scans_ ABSL_GUARDED_BY(mutex_) = 0;      // begun
  uint64_t good_scan_ ABSL_GUARDED_BY(mutex_) = 0;  // the last that saw the repository
  std::map<std::string, Known> models_ ABSL_GUARDED_BY(mutex_);
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  // Why the last look found nothing to serve, or less than was asked for; logged when it changes.
  std::string scan_problem_ ABSL_GUARDED_BY(mutex_) = "the repository has not been looked into";
  std::thread thread_;
  std::thread work_;  // verifies or loads one version; belongs to thread_
};

}  // namespace dreamstate::server
