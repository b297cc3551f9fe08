// What the model host knows, as the public contract's messages.
#pragma once

#include "dreamstate/v1/model_service.pb.h"
#include "server/inference/model_host.h"

namespace dreamstate::server {

v1::Model ToMessage(const ModelStatus& status);
// One of `model`'s versions.
v1::ModelVersion ToMessage(const ModelStatus& model, const VersionStatus& status);

}  // namespace dreamstate::server
