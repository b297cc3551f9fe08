#include "client/names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dreamstate::client {
namespace {

std::string WithCollection(absl::string_view collection, absl::string_view name_or_id) {
  if (name_or_id.empty() || absl::StartsWith(name_or_id, collection))
    return std::string(name_or_id);
  return absl::StrCat(collection, name_or_id);
}

}  // namespace

std::string StateName(absl::string_view name_or_id) {
  return WithCollection("states/", name_or_id);
}

std::string ModelName(absl::string_view name_or_id) {
  return WithCollection("models/", name_or_id);
}

absl::string_view IdOf(absl::string_view name) {
  const size_t slash = name.find('/');
  return slash == absl::string_view::npos ? name : name.substr(slash + 1);
}

}  // namespace dreamstate::client
