#include "server/inference/state_dit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/state.h"
#include "server/inference/resource_names.h"

namespace dreamstate::server {
namespace {

constexpr size_t kNamedLabels = 64;

// A member of the component's config as a list of one type.
template <typename T>
absl::StatusOr<std::vector<T>> ListOf(const nlohmann::json& config, const char* name) {
  const auto found = config.find(name);
  if (found != config.end()) {
    try {
      return found->template get<std::vector<T>>();
    } catch (const nlohmann::json::exception&) {
    }
  }
  return absl::InvalidArgumentError(StrCat("state_dit: config: expected a list \"", name, "\""));
}

absl::Status CheckFits(const StateDit& dit, const rwkv::Config& config) {
  const diffusion::StateGenerator& generator = *dit.generator;
  if (generator.codec().shape() != state::Shape::Of(config)) {
    return absl::FailedPreconditionError(
        "state_dit: its states are not of the backbone's shape: it was made for another one");
  }
  if (static_cast<size_t>(generator.sizes().labels) != dit.labels.size()) {
    return absl::InvalidArgumentError(StrCat("state_dit: config: expected ",
                                             generator.sizes().labels, " labels, found ",
                                             dit.labels.size()));
  }
  for (const int tap : dit.taps) {
    if (tap >= 0 && tap < config.layers) continue;
    return absl::InvalidArgumentError(StrCat("state_dit: config: taps: expected layers 0 to ",
                                             config.layers - 1, ", found ", tap));
  }
  const auto width = static_cast<int64_t>(dit.taps.size()) * config.width;
  if (generator.sizes().activation_width != width) {
    return absl::InvalidArgumentError(StrCat(
        "state_dit: config: ", dit.taps.size(), " taps of width ", config.width, ": expected ",
        generator.sizes().activation_width, " numbers of a text's token, found ", width));
  }
  return absl::OkStatus();
}

absl::Status SelfTest(const StateDit& dit) {
  const diffusion::StateRequest request;
  DS_ASSIGN_OR_RETURN(
      const std::vector<state::State> made,
      dit.generator->Generate(std::span(&request, 1), {.mode = diffusion::GenerateMode::kMean}));
  const absl::Status finite = made[0].Validate();
  if (finite.ok()) return finite;
  return absl::FailedPreconditionError(
      StrCat("state_dit: self-test: the mean state is not finite: ", finite.message()));
}

}  // namespace

absl::StatusOr<int> StateDit::FindLabel(std::string_view label) const {
  // A label without a name was not trained.
  const auto found = std::ranges::find(labels, label);
  if (!label.empty() && found != labels.end()) return static_cast<int>(found - labels.begin());
  std::vector<std::string> known;
  for (const std::string& one : labels) {
    if (!one.empty() && known.size() < kNamedLabels) known.push_back(one);
  }
  return absl::InvalidArgumentError(
      StrCat("expected a label that the state DiT was trained with (", absl::StrJoin(known, ", "),
             known.size() < labels.size() ? ", ..." : "", "), found \"", label, "\""));
}

absl::StatusOr<std::shared_ptr<const StateDit>> LoadStateDit(const repository::Component& component,
                                                             const tensors::TensorSet& tensors,
                                                             const rwkv::Config& config) {
  auto dit = std::make_shared<StateDit>();
  dit->digest = component.digest;
  DS_ASSIGN_OR_RETURN(dit->labels, ListOf<std::string>(component.config, "labels"));
  DS_ASSIGN_OR_RETURN(dit->taps, ListOf<int>(component.config, "taps"));
  for (const tensors::Tensor& tensor : tensors.tensors()) dit->parameters += tensor.elements();
  absl::StatusOr<std::unique_ptr<diffusion::StateGenerator>> generator =
      diffusion::StateGenerator::Load(tensors, /*bf16=*/true);
  if (!generator.ok()) return WithPrefix("state_dit", generator.status());
  dit->generator = *std::move(generator);
  DS_RETURN_IF_ERROR(CheckFits(*dit, config));
  DS_RETURN_IF_ERROR(SelfTest(*dit));
  return dit;
}

std::shared_ptr<const StateDit> FindStateDit(const ModelDirectory& models,
                                             const state::Record& record) {
  const auto serving = models.Find(ModelResourceName(record.model));
  std::shared_ptr<const ModelSession> session = serving.ok() ? *serving : nullptr;
  if (session == nullptr || session->weights->fingerprint != record.fingerprint) {
    session = models.FindBackbone(record.model, record.fingerprint);
  }
  if (session == nullptr || session->state_dit == nullptr) return nullptr;
  const bool fits = session->state_dit->generator->codec().shape() == record.state.shape;
  return fits ? session->state_dit : nullptr;
}

}  // namespace dreamstate::server
