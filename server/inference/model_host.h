// The lives of bundles in this server. Each (model, version) goes
//   Discovered → Verifying → Loading → WarmingUp → Serving → Draining → Released,  any → Failed
//   (with a reason)
// One background thread looks into the repository, loads what model_policy.h chooses, tests it
// through its own scheduler and then publishes it by one pointer swap; a version that fails is
// never served and the next older one is tried. Requests find what serves through ModelDirectory
// and hold it until they end. Thread-safe.
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
#include "core/base/mutex.h"
#include "core/repository/repository.h"
#include "core/rwkv/weights.h"
#include "server/inference/metrics.h"
#include "server/inference/model_policy.h"
#include "server/inference/model_session.h"

namespace dreamstate::server {

struct ModelHostOptions {
  std::vector<std::string> models;            // empty = all of the repository
  std::optional<rwkv::WeightFormat> weights;  // unset = ChooseWeightFormat
  SchedulerOptions scheduler;
  absl::Duration poll = absl::Seconds(1);
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
  std::vector<VersionStatus> versions;          // newest first
  std::shared_ptr<const ModelSession> session;  // null while none serves
};

class ModelHost : public ModelDirectory {
 public:
  // Told when a model begins or stops to serve; from the background thread.
  using ServingCallback = std::function<void(const std::string& model, bool serving)>;

  // `metrics` outlives this.
  ModelHost(std::unique_ptr<const repository::Repository> repository, ModelHostOptions options,
            Metrics* metrics, ServingCallback on_serving);
  // As Stop.
  ~ModelHost() override;

  // Starts the background thread; call once. Before it no model is known.
  void Start();

  absl::StatusOr<std::shared_ptr<const ModelSession>> Find(std::string_view name) const override;

  // In order of name.
  std::vector<ModelStatus> Models() const;
  // NOT_FOUND with the resource, or UNAVAILABLE while the repository has not been looked into.
  absl::StatusOr<ModelStatus> Model(const std::string& model) const;

  // From now on Find answers UNAVAILABLE; nothing more is loaded; schedulers refuse new jobs.
  void BeginDrain();
  // BeginDrain, then waits until no scheduler runs anything or `limit` has passed. True when
  // nothing runs.
  bool Drain(absl::Duration limit);
  // Ends every job and joins the background thread. Idempotent.
  void Stop();

 private:
  void Run();
  void Scan();
  // What keeps `names`, the models found, from being all that was asked for; empty = nothing.
  std::string ProblemWith(const absl::StatusOr<std::vector<std::string>>& names) const;
  void SetScanProblem(std::string problem);
  void ScanModel(const std::string& model);
  std::vector<ModelView> View() const;
  void Load(const LoadTarget& target);
  // Everything between Discovered and Serving. Names the phase it is in.
  absl::StatusOr<std::shared_ptr<const ModelSession>> LoadSession(
      const LoadTarget& target, const repository::Manifest& manifest, std::string_view* phase);
  absl::StatusOr<rwkv::WeightFormat> FormatFor(const repository::Manifest& manifest,
                                               int64_t parameters) const;
  void SetState(const LoadTarget& target, const std::function<void(VersionStatus&)>& change);
  std::vector<std::shared_ptr<const ModelSession>> Sessions() const;
  bool stopping() const;
  // CANCELLED while stopping; asked between the phases of a load, so that a stop waits for one
  // phase and not for all.
  absl::Status CheckNotStopping() const;

  const std::unique_ptr<const repository::Repository> repository_;
  const ModelHostOptions options_;
  Metrics* const metrics_;
  const ServingCallback on_serving_;

  mutable Mutex mutex_;
  ConditionVariable changed_;
  bool scanned_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, ModelStatus> models_ ABSL_GUARDED_BY(mutex_);
  // Why the last look found nothing to serve, or less than was asked for; logged when it changes.
  std::string scan_problem_ ABSL_GUARDED_BY(mutex_) = "the repository has not been looked into";
  std::thread thread_;
};

}  // namespace dreamstate::server
