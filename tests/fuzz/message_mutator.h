// Changes a protobuf message at random places by its descriptor, so that a fuzzer spends its time
// behind the parser: fields are set, cleared, repeated and removed, and take the values at which
// checks break.
#pragma once

#include <random>

#include "google/protobuf/message.h"

namespace dreamstate::fuzz {

// One change somewhere in `message`, the same for the same `random`.
void MutateMessage(google::protobuf::Message* message, std::minstd_rand& random);

}  // namespace dreamstate::fuzz
