// Where a listing goes on. A token belongs to one tenant and one query (but any page size);
// another's is refused.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/state/store.h"

namespace dreamstate::state {

// The listing has looked at everything up to and with `last_id`. Also for whoever shows only the
// first states of a page.
std::string MakePageToken(std::string_view tenant, const ListQuery& query,
                          std::string_view last_id);

// The id in `query.page_token`; empty when the token is empty. INVALID_ARGUMENT ("page_token") when
// the token was not made for this tenant and query.
absl::StatusOr<std::string> ReadPageToken(std::string_view tenant, const ListQuery& query);

}  // namespace dreamstate::state
