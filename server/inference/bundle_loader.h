// Makes a version of the repository into something that serves, in two steps: check the files, then
// build and test. Both block for as long as files and weights are large; what reads and packs them
// does so at low priority. Knows nothing of other versions but those it is told to share with.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/base/memory.h"
#include "core/base/stopping.h"
#include "core/repository/repository.h"
#include "core/rwkv/weights.h"
#include "core/tensors/tensor_set.h"
#include "server/inference/bundle_memory.h"
#include "server/inference/model_policy.h"
#include "server/inference/model_session.h"

namespace dreamstate::server {

// A bundle whose files are what its manifest says and whose sizes fit together.
struct VerifiedBundle {
  std::shared_ptr<const repository::Manifest> manifest;
  // The checked mapping; nothing when a live version of the same backbone has the weights already.
  std::optional<tensors::TensorSet> backbone;
  // The same for a bundle that has one.
  std::optional<tensors::TensorSet> state_dit;
  int64_t parameters = 0;
  rwkv::WeightFormat format = rwkv::WeightFormat::kFloat32;
  MemoryNeed memory;
};

struct LoadedBundle {
  std::shared_ptr<const ModelSession> session;
  int64_t parameters = 0;
  double measured_nll = 0;
  double tolerance = 0;
  bool shares_backbone = false;
};

class BundleLoader {
 public:
  struct Options {
    SchedulerOptions scheduler;
    std::function<absl::StatusOr<rwkv::WeightFormat>(const repository::Manifest&,
                                                     int64_t parameters)>
        choose_format;
    std::function<std::optional<int64_t>()> available_memory = [] {
      return AvailableMemoryBytes(ReadMemoryFiles());
    };
  };
  // A live version, with the parameters that were counted when it was loaded.
  struct Shared {
    std::shared_ptr<const ModelSession> session;
    int64_t parameters = 0;
  };

  // `repository` outlives this.
  BundleLoader(const repository::Repository* repository, Options options)
      : repository_(repository), options_(std::move(options)) {}

  // Whether what `shared` holds is, to the bit, what loading `manifest` would give: the same
  // backbone, in the format chosen for this one, with the same matrices in int8.
  bool CanShare(const repository::Manifest& manifest, const Shared& shared) const;

  // Files, hashes, tokenizer, special tokens, self-test tolerance, memory. `freed_bytes` is memory
  // that will be given back before the load. `shared` may be null, and is one that CanShare. The
  // status says what is wrong with which file or field; RESOURCE_EXHAUSTED when memory is short.
  // `stopping` ends it early, with CANCELLED.
  absl::StatusOr<VerifiedBundle> Verify(std::shared_ptr<const repository::Manifest> manifest,
                                        const Shared& shared, int64_t freed_bytes,
                                        const Stopping& stopping) const;

  // `entered` is told of kLoading and kWarmingUp. When `shared` is set, its weights and scheduler
  // are used and nothing is read. `observer` makes one for a new scheduler, which outlives it.
  // `stopping` ends it early, with CANCELLED; the self-test is run to its end.
  absl::StatusOr<LoadedBundle> Load(const VerifiedBundle& bundle, const Shared& shared,
                                    const std::function<SchedulerObserver*()>& observer,
                                    const std::function<void(VersionState)>& entered,
                                    const Stopping& stopping) const;

 private:
  absl::Status CheckFits(const VerifiedBundle& bundle, const rwkv::Config& config) const;
  absl::Status LoadBackbone(const VerifiedBundle& bundle, SchedulerObserver* observer,
                            const Stopping& stopping, ModelSession* session) const;

  const repository::Repository* const repository_;
  const Options options_;
};

}  // namespace dreamstate::server
