// The process's log: lines on stderr, for people or as JSON objects {"time", "level", "message"}
// for machines. Control characters of a message never reach the terminal, and a message is always
// one line.
#pragma once

#include <string>

namespace dreamstate::server {

// `level` and `format` as Options has them. Call once, before other threads start. gRPC's own
// messages appear at level debug.
void ConfigureLog(const std::string& level, const std::string& format);

}  // namespace dreamstate::server
