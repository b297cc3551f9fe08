// Idempotency keys for calls that change something, so that a repeat changes nothing twice.
#pragma once

#include <string>

namespace dreamstate::client {

// 32 hexadecimal digits, drawn anew each time. Thread-safe.
std::string DrawRequestId();

}  // namespace dreamstate::client
