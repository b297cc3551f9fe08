// Which fields of requests a table of malformed requests has spoilt, and which it forgot.
#pragma once

#include <set>
#include <string>

#include "google/protobuf/message.h"

namespace dreamstate::testing {

// Fields as "Sampling.top_k": the message that has it, and its name.
class FieldCoverage {
 public:
  // Takes down every field, at any depth, in which the two requests differ.
  void Record(const google::protobuf::Message& good, const google::protobuf::Message& spoilt);
  // Fields of `request` and of what it is made of that were never spoilt, in order. Fields of which
  // every value is valid (bool), and messages of other packages, are not asked for.
  std::set<std::string> Forgotten(const google::protobuf::Descriptor& request) const;

 private:
  std::set<std::string> spoilt_;
};

}  // namespace dreamstate::testing
