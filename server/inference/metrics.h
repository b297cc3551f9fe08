// Everything that /metrics shows, in one place: names, help, labels. Base units (seconds, bytes),
// few labels, prefix "dreamstate_". A new metric is one line in the constructor and one where it is
// counted. Thread-safe. Outlives everything that reports to it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/state/pool.h"
#include "core/state/prefix_trie.h"
#include "grpcpp/support/status.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "server/inference/scheduler_observer.h"

namespace dreamstate::server {

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // What an exposer serves; it keeps no hold on them.
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables() const;

  // Calls, by full method name ("/dreamstate.v1.StateService/GetState").
  void OnCallStarted(const std::string& method);
  void OnCallEnded(const std::string& method, grpc::StatusCode code, absl::Duration duration);

  // A call of the state store; `operation` is one of a few fixed words.
  void OnStoreCall(std::string_view operation, const absl::Status& status, absl::Duration duration);

  // An observer for one scheduler of `model`. Several may live at once, for versions of different
  // backbones: their loads add up. Owned by this.
  SchedulerObserver* NewObserver(const std::string& model);

  // Lives of bundle versions. `phase`: "manifest", "verify", "load", "self_test".
  void OnBundlePhase(const std::string& model, std::string_view phase, absl::Duration duration);
  void OnBundleRejected(const std::string& model, std::string_view phase);
  // `outcome`: "served", "rejected", "failed_in_passing".
  void OnReload(const std::string& model, std::string_view outcome);
  // A backbone's weights were read and packed, not shared with a live version.
  void OnBackboneLoaded(const std::string& model);
  // From now on `version`, made at `created`, answers calls.
  void OnServing(const std::string& model, int64_t version, absl::Time created);
  struct Bundle {
    int64_t version = 0;
    std::string fingerprint;
    std::string weights;  // format
    int64_t weight_bytes = 0;
    int64_t slot_bytes = 0;
  };
  // The versions of `model` that are live now; series of others go. What versions of one backbone
  // share is counted once.
  void OnLive(const std::string& model, std::vector<Bundle> bundles);

  // State DiTs: calls that wait for one; a batch of `states` that were made in `steps` steps; the
  // verdict of a safety gate; the denoiser energy of a result of `operation` ("generate", "edit").
  void OnDiffusionQueue(int64_t waiting);
  void OnDiffusionBatch(int64_t states, int64_t steps, absl::Duration duration);
  void OnSafetyVerdict(std::string_view operation, bool passed);
  void OnEnergy(std::string_view operation, double energy);

  // States are counted when somebody looks, as long as the store lives.
  void WatchStore(std::weak_ptr<state::PooledStateStore> store);
  // So are known prefixes.
  void WatchPrefixes(std::weak_ptr<state::PrefixTrie> prefixes);

 private:
  class ModelObserver;
  class LoadShare;
  class Sampled;

  template <typename T>
  using Family = prometheus::Family<T>&;

  std::shared_ptr<prometheus::Registry> registry_;
  Family<prometheus::Counter> calls_;
  Family<prometheus::Histogram> call_seconds_;
  Family<prometheus::Gauge> calls_in_flight_;
  Family<prometheus::Histogram> store_seconds_;
  Family<prometheus::Counter> store_errors_;
  Family<prometheus::Histogram> first_token_seconds_;
  Family<prometheus::Histogram> output_token_seconds_;
  Family<prometheus::Histogram> queue_seconds_;
  Family<prometheus::Gauge> queue_jobs_;
  Family<prometheus::Gauge> running_jobs_;
  Family<prometheus::Gauge> slots_;
  Family<prometheus::Counter> refused_jobs_;
  Family<prometheus::Histogram> step_seconds_;
  Family<prometheus::Histogram> step_sequences_;
  Family<prometheus::Histogram> step_tokens_;
  Family<prometheus::Counter> tokens_;
  Family<prometheus::Counter> reused_tokens_;
  Family<prometheus::Gauge> bundle_info_;
  Family<prometheus::Gauge> bundle_seconds_;
  Family<prometheus::Counter> bundles_rejected_;
  Family<prometheus::Counter> reloads_;
  Family<prometheus::Counter> backbone_loads_;
  Family<prometheus::Gauge> live_versions_;
  Family<prometheus::Gauge> serving_version_;
  Family<prometheus::Gauge> memory_;
  Family<prometheus::Gauge> diffusion_waiting_;
  Family<prometheus::Counter> diffusion_steps_;
  Family<prometheus::Histogram> diffusion_states_;
  Family<prometheus::Histogram> diffusion_seconds_;
  Family<prometheus::Counter> safety_verdicts_;
  Family<prometheus::Histogram> energy_;
  std::shared_ptr<Sampled> sampled_;

  Mutex mutex_;
  std::map<std::string, std::unique_ptr<ModelObserver>> observers_ ABSL_GUARDED_BY(mutex_);
  // One a scheduler that ever was: small, and a loop may end long after its version was released.
  std::vector<std::unique_ptr<LoadShare>> shares_ ABSL_GUARDED_BY(mutex_);
  struct Live {
    std::vector<Bundle> bundles;
    std::vector<prometheus::Gauge*> info;  // their series
  };
  std::map<std::string, Live> live_ ABSL_GUARDED_BY(mutex_);  // by model
};

}  // namespace dreamstate::server
