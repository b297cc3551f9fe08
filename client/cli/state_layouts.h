// What states are written as outside of the store, as people name it.
#pragma once

#include <string>

#include "CLI/CLI.hpp"
#include "dreamstate/v1/state_service.pb.h"

namespace dreamstate::cli {

// --layout and --dtype.
struct StateFormat {
  v1::StateLayout layout = v1::STATE_LAYOUT_UNSPECIFIED;
  v1::StateDType dtype = v1::STATE_DTYPE_UNSPECIFIED;

  // The descriptions say what is taken when they are not given.
  void AddTo(CLI::App& command, const std::string& layout_description,
             const std::string& dtype_description);
};

}  // namespace dreamstate::cli
