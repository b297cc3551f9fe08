// Listing: the ids that all indexes of the query have in common, page by page.
#include <algorithm>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/page_token.h"
#include "core/state/rocksdb/keys.h"
#include "core/state/rocksdb/listing.h"
#include "core/state/rocksdb/store.h"
#include "core/state/rocksdb/store_errors.h"
#include "rocksdb/snapshot.h"

namespace dreamstate::state {
namespace {

constexpr int kMaxPageSize = 1000;
constexpr size_t kMaxLabels = 64;  // no state has more
// What a page may cost in moves of indexes, however few states fit; it then ends early with a token
// to go on from.
constexpr int kMaxStepsPerPage = 8192;
// What the rows of a page may have as text, unless it is one row; in memory it is several times as
// much.
constexpr size_t kMaxPageBytes = size_t{4} << 20;

std::vector<std::string> PrefixesOf(const std::string& tenant, const ListQuery& query) {
  std::vector<std::string> prefixes;
  // The first leads: those that tend to be shortest come first.
  if (!query.parent.empty()) {
    prefixes.push_back(query.stubs ? ChildPrefix(tenant, query.parent)
                                   : ParentPrefix(tenant, query.parent));
  }
  for (const std::string& label : query.labels) prefixes.push_back(LabelPrefix(tenant, label));
  if (!query.fingerprint.empty()) prefixes.push_back(BackbonePrefix(tenant, query.fingerprint));
  if (!query.model.empty()) prefixes.push_back(ModelPrefix(tenant, query.model));
  if (prefixes.empty()) prefixes.push_back(LivePrefix(tenant));
  return prefixes;
}

}  // namespace

absl::StatusOr<ListPage> RocksDbStore::List(const std::string& tenant, const ListQuery& query) {
  if (query.page_size < 1) {
    return FieldError("page_size", StrCat("expected at least 1, found ", query.page_size));
  }
  if (query.labels.size() > kMaxLabels) {
    return FieldError("labels",
                      StrCat("expected at most ", kMaxLabels, ", found ", query.labels.size()));
  }
  if (query.stubs && (query.parent.empty() || !query.labels.empty() || !query.model.empty() ||
                      !query.fingerprint.empty())) {
    return FieldError("stubs", "expected a query by parent alone");
  }
  DS_ASSIGN_OR_RETURN(std::string start, ReadPageToken(tenant, query));
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForReading());
  rocksdb::ManagedSnapshot snapshot(use->db.get());
  std::vector<std::unique_ptr<IdStream>> streams;
  for (std::string& prefix : PrefixesOf(tenant, query)) {
    streams.push_back(std::make_unique<IdStream>(use->db.get(), use->rows, snapshot.snapshot(),
                                                 std::move(prefix), query.oldest_first));
  }
  CommonIds ids(std::move(streams), query.oldest_first, std::move(start), kMaxStepsPerPage);
  const size_t page_size = static_cast<size_t>(std::min(query.page_size, kMaxPageSize));
  const absl::Time now = options_.clock->Now();
  ListPage page;
  std::string last;
  size_t bytes = 0;
  while (ids.Next()) {
    if (page.states.size() == page_size) {
      page.next_page_token = MakePageToken(tenant, query, last);
      return page;
    }
    size_t row_bytes = 0;
    absl::StatusOr<std::optional<Row>> found =
        FindRow(*use, tenant, ids.id(), snapshot.snapshot(), &row_bytes);
    bytes += row_bytes;
    if (bytes > kMaxPageBytes && !page.states.empty()) {
      page.next_page_token = MakePageToken(tenant, query, last);
      return page;
    }
    last = ids.id();
    // One damaged row must not hide the others; whoever asks for that state is told.
    if (absl::IsDataLoss(found.status())) continue;
    DS_ASSIGN_OR_RETURN(std::optional<Row> row, std::move(found));
    if (row.has_value() && (query.stubs || !row->description.deleted) && !IsExpired(*row, now) &&
        row->description.record.created < query.created_before) {
      page.states.push_back(std::move(row->description));
    }
  }
  DS_RETURN_IF_ERROR(database_->Explain(ids.status()));
  if (ids.out_of_steps()) page.next_page_token = MakePageToken(tenant, query, ids.examined());
  return page;
}

}  // namespace dreamstate::state
