// Keys of the store. Variable parts carry their length, so that no tenant's keys can be taken for
// another's; an id is always the last 26 bytes, so that every index lists states in the order of
// making. Rows and indexes are in the default column family:
//   r tenant id               row: what Describe answers (row.h)
//   a tenant id               every state that is no stub; the value is the stored size
//   l tenant label id         live states
//   m tenant model id         live states
//   f tenant fingerprint id   live states
//   p tenant parent id        live children
//   c tenant parent id        all children, stubs too: what keeps a stub alive
//   x microseconds tenant id  live states that expire, soonest first, across tenants
//   q tenant id               records set aside
//   g tenant parent id        a child was removed: is its parent a stub without children now?
// Column family "records":
//   r tenant id               the record's bytes
//   q tenant id               bytes that were set aside
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "core/state/rocksdb/row.h"

namespace dreamstate::state {

std::string RowKey(std::string_view tenant, std::string_view id);
std::string DamagedKey(std::string_view tenant, std::string_view id);
std::string OrphanKey(std::string_view tenant, std::string_view parent, std::string_view child);
std::string RecordKey(std::string_view tenant, std::string_view id);
std::string SetAsideKey(std::string_view tenant, std::string_view id);

// What the keys of one listing begin with; an id follows.
std::string LivePrefix(std::string_view tenant);
std::string LabelPrefix(std::string_view tenant, std::string_view label);
std::string ModelPrefix(std::string_view tenant, std::string_view model);
std::string BackbonePrefix(std::string_view tenant, std::string_view fingerprint);
std::string ParentPrefix(std::string_view tenant, std::string_view parent);
std::string ChildPrefix(std::string_view tenant, std::string_view parent);

// The least key that is greater than every key beginning with `prefix`.
std::string EndOfPrefix(std::string prefix);

// The parts of a key; false when it is not of that form. SplitKey is for the kinds r, a and q.
bool SplitKey(std::string_view key, std::string* tenant, std::string* id);
bool SplitOrphanKey(std::string_view key, std::string* tenant, std::string* parent,
                    std::string* child);
bool SplitExpiryKey(std::string_view key, absl::Time* expires, std::string* tenant,
                    std::string* id);

// Whether `key` is an index entry (a, l, m, f, p, c, x, q) of that state.
bool IsIndexEntryOf(std::string_view key, std::string_view tenant, std::string_view id);

// Every index entry that a row has, key to value: the indexes are this function of the rows and
// nothing else.
std::map<std::string, std::string> IndexEntries(std::string_view tenant, const Row& row);

}  // namespace dreamstate::state
