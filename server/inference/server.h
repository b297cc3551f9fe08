// The inference server in one object: everything that the options ask for, put together, listening.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/inference/options.h"

namespace dreamstate::server {

class Server {
 public:
  // Opens repository and store, listens, and begins to load models in the background: calls are
  // answered at once (UNAVAILABLE until a model serves). An error is one line for the person who
  // started the program; nothing is left running.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Options& options);
  // As Drain(0).
  ~Server();

  // 0 when switched off.
  int grpc_port() const;
  int admin_port() const;

  // Health goes to NOT_SERVING, new work is refused, calls in flight may finish for `limit`; what
  // is left then is ended UNAVAILABLE. True when everything finished by itself. Call once.
  bool Drain(absl::Duration limit);

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace dreamstate::server
