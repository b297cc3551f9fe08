#ifndef DREAMSTATE_TESTS_PLATFORM_RPC_SIDE_H_
#define DREAMSTATE_TESTS_PLATFORM_RPC_SIDE_H_

// The half of the platform test that sees gRPC and Protocol Buffers, and no torch.

#include <memory>
#include <string>

namespace dreamstate::platform {

// A server on a free port of the loopback interface that lists `models` models, and a channel to
// it.
class RpcSide {
 public:
  explicit RpcSide(int models);
  ~RpcSide();
  RpcSide(const RpcSide&) = delete;
  RpcSide& operator=(const RpcSide&) = delete;

  // Calls ListModels over the wire and compares the answer, field by field, with what the server
  // was given. Empty when they are equal, otherwise what went wrong.
  std::string CallAndCompare() const;
  // Size on the wire of what ListModels answers.
  size_t answer_bytes() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Binary, text and JSON round trips of a message without a wire; empty when each returns what it
// was given.
std::string RoundTripMessages();

}  // namespace dreamstate::platform

#endif  // DREAMSTATE_TESTS_PLATFORM_RPC_SIDE_H_
