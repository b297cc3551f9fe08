#include "server/inference/model_messages.h"

#include <algorithm>
#include <string>

#include "core/base/strings.h"
#include "kernels/runtime/cpu.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {
namespace {

void FillBackbone(const rwkv::Config& config, int64_t parameters, v1::BackboneConfig* message) {
  message->set_layers(config.layers);
  message->set_width(config.width);
  message->set_heads(config.heads);
  message->set_head_size(config.head_size);
  message->set_ffn_width(config.ffn_width);
  message->set_vocab_size(config.vocab);
  message->set_rank_decay(config.rank_decay);
  message->set_rank_iclr(config.rank_iclr);
  message->set_rank_value(config.rank_value);
  message->set_rank_gate(config.rank_gate);
  message->set_parameters(parameters);
}

// What is known before a version serves comes from the newest readable manifest.
void FillFromManifest(const repository::Manifest& manifest, v1::Model* message) {
  message->set_tokenizer(manifest.tokenizer);
  message->set_end_token(manifest.end_token);
  message->set_separator_token(manifest.separator_token);
  message->set_chat_template(manifest.chat_template);
  if (const repository::Component* backbone = manifest.Find("backbone"); backbone != nullptr) {
    message->set_backbone_fingerprint(backbone->digest);
  }
}

v1::ModelVersion::State StateMessage(VersionState state) {
  switch (state) {
    case VersionState::kDiscovered:
      return v1::ModelVersion::DISCOVERED;
    case VersionState::kVerifying:
      return v1::ModelVersion::VERIFYING;
    case VersionState::kLoading:
      return v1::ModelVersion::LOADING;
    case VersionState::kWarmingUp:
      return v1::ModelVersion::WARMING_UP;
    case VersionState::kServing:
      return v1::ModelVersion::SERVING;
    case VersionState::kDraining:
      return v1::ModelVersion::DRAINING;
    case VersionState::kReleased:
      return v1::ModelVersion::RELEASED;
    case VersionState::kFailed:
      return v1::ModelVersion::FAILED;
  }
  return v1::ModelVersion::STATE_UNSPECIFIED;
}

v1::Model::Follow FollowMessage(FollowMode mode) {
  switch (mode) {
    case FollowMode::kAll:
      return v1::Model::ALL;
    case FollowMode::kSameBackbone:
      return v1::Model::SAME_BACKBONE;
    case FollowMode::kPinned:
      return v1::Model::PINNED;
  }
  return v1::Model::FOLLOW_UNSPECIFIED;
}

}  // namespace

v1::Model ToMessage(const ModelStatus& status) {
  v1::Model message;
  message.set_name(ModelResourceName(status.model));
  message.set_follow(FollowMessage(status.follow));
  if (status.pinned) message.set_pinned_version(VersionResourceName(status.model, *status.pinned));
  for (const VersionStatus& version : status.versions) {
    if (version.state != VersionState::kDraining) continue;
    message.add_other_live_versions(VersionResourceName(status.model, version.version));
  }
  const ModelSession* session = status.session.get();
  const auto shown = std::find_if(status.versions.begin(), status.versions.end(),
                                  [&](const VersionStatus& version) {
                                    return session != nullptr ? version.version == session->version
                                                              : version.manifest != nullptr;
                                  });
  if (shown != status.versions.end() && shown->manifest != nullptr) {
    FillFromManifest(*shown->manifest, &message);
  }
  if (session == nullptr) return message;
  const rwkv::Weights& weights = *session->weights;
  message.set_serving_version(session->VersionName());
  FillBackbone(weights.config, shown != status.versions.end() ? shown->parameters : 0,
               message.mutable_backbone());
  message.set_backbone_fingerprint(weights.fingerprint);
  message.set_weight_format(std::string(rwkv::WeightFormatName(weights.format)));
  if (weights.format == rwkv::WeightFormat::kInt8) {
    for (const auto format : {rwkv::WeightFormat::kBfloat16, rwkv::WeightFormat::kInt8}) {
      (*message.mutable_matrices_by_format())[std::string(rwkv::WeightFormatName(format))] =
          weights.matrices[static_cast<int>(format)];
    }
  }
  message.set_device(StrCat("cpu/", kernels::IsaName(kernels::ActiveIsa())));
  message.set_state_bytes(weights.config.state_bytes());
  return message;
}

v1::ModelVersion ToMessage(const ModelStatus& model, const VersionStatus& status) {
  v1::ModelVersion message;
  message.set_name(VersionResourceName(model.model, status.version));
  message.set_pinned(model.pinned == status.version);
  message.set_version(status.version);
  message.set_state(StateMessage(status.state));
  message.set_reason(status.reason);
  if (status.manifest == nullptr) return message;
  const repository::Manifest& manifest = *status.manifest;
  *message.mutable_created() = ToTimestampMessage(manifest.created);
  message.set_trainer_step(manifest.trainer_step);
  for (const repository::Component& component : manifest.components) {
    v1::ModelVersion::Component* added = message.add_components();
    added->set_kind(component.kind);
    added->set_digest(component.digest);
    added->set_bytes(component.bytes);
  }
  v1::ModelVersion::SelfTest* self_test = message.mutable_self_test();
  self_test->set_expected_nll(manifest.self_test.expected_nll);
  if (status.measured_nll) self_test->set_measured_nll(*status.measured_nll);
  if (status.tolerance) self_test->set_tolerance(*status.tolerance);
  ToStructMessage(manifest.metrics, message.mutable_metrics());
  return message;
}

}  // namespace dreamstate::server
